// What the parts of the demo share: elements, percents, sliders.

// An element with its attributes and children; names that begin with "on" are listeners.
export function make(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

export const percent = share => `${Math.round(100 * share)}%`;
export const rate = share => share > 0 && share < 0.0095 ? `${(100 * share).toFixed(1)}%` : percent(share);  // 1 of 938 is not 0%
export const plain = name => name.replaceAll("_", " ");

// A slider with its name and its value in words; `said` makes the words from the value.
export function slider(name, { min, max, step = 1, value, said = String }, changed) {
  const output = make("output", {}, said(value));
  const input = make("input", {
    type: "range", min, max, step, value, "aria-valuetext": said(value),
    oninput: () => show(Number(input.value), true),
  });
  function show(number, tell = false) {
    input.value = number;
    output.textContent = said(number);
    input.setAttribute("aria-valuetext", said(number));
    if (tell) changed(number);
  }
  return { node: make("label", { class: "demo-slider" }, make("span", {}, name), input, output), show, input };
}

// A choice of one from a list of [value, words].
export function choice(name, options, changed) {
  const select = make("select", { onchange: () => changed(select.value) },
    ...options.map(([value, words]) => make("option", { value }, words)));
  return { node: make("label", { class: "demo-choice" }, make("span", {}, name), select), select };
}

// A line that follows at once, and that a screen reader reads when it has settled, not at each step of a slider.
export function status() {
  const shown = make("span", { "aria-hidden": "true" }), read = make("span", { class: "demo-hidden", role: "status" });
  let waiting;
  return { node: make("p", { class: "demo-status" }, shown, read), say(text) {
    shown.textContent = text;
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (read.textContent !== text) read.textContent = text; }, 150);
  } };
}
