// A drawn face that you compose and paint over, and forty answers of the network about it.
import { score } from "./heaps.js";
import { loadNetwork } from "./network.js";
import { choice, make, percent, plain, rate, slider, status } from "./parts.js";
import { squeeze } from "./pixels.js";

const SIZE = 64, STRIDE = 6;
const COLOURS = { grey: () => "rgb(128 128 128)", skin: person => `rgb(${person.skin.join(" ")})`, black: () => "rgb(0 0 0)" };
const HOW = "Paint with the mouse or a finger. With the keyboard: the arrow keys move the brush, Space paints, Delete wipes the paint off.";
const UNPAINTED = "Cover the glasses, or paint over anything else in the picture: the three answers that change most are named here.";

// The names that are true for a person with some attributes switched on, as tools/demo.py has drawn them.
export function truth(facts, person, on) {
  const names = new Set(person.attributes);
  for (const name of on) {
    names.add(name);
    for (const other of facts.excludes[name] ?? []) names.delete(other);
  }
  return names;
}

// The forty rows of the table, those that can be switched first.
function table(facts) {
  const order = [...facts.switches, ...facts.attributes.filter(name => !facts.switches.includes(name))];
  const rows = order.map(name => {
    const track = make("div", { class: "demo-track" }, make("i", { class: "demo-said" }), make("i", { class: "demo-bar" }),
      make("i", { class: "demo-was" }), make("i", { class: "demo-rate" }), make("i", { class: "demo-cut" }));
    const [answer, found, wrong] = Array.from({ length: 3 }, () => make("td"));
    const a = facts.attributes.indexOf(name);
    track.style.setProperty("--rate", facts.rates[a]);
    return { a, name, track, answer, found, wrong, node: make("tr", facts.switches.at(-1) === name ? { class: "demo-last" } : {},
      make("th", { scope: "row" }, plain(name)), make("td", { "aria-hidden": "true" }, track), answer, found, wrong) };
  });
  const head = ["question", "probability of yes", "found", "false alarms"].map(
    name => make("th", { scope: "col", colspan: name.startsWith("prob") ? 2 : false }, name));
  const node = make("table", { class: "demo-answers" }, make("caption", {}, "Forty answers about this face"),
    make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows.map(row => row.node)));
  return { node, rows };
}

function legend(facts) {
  const lines = [["bar", "its probability of yes"], ["wrong", "the same, where its answer is wrong (✗)"],
    ["was", "before you painted"], ["said", `share of ${facts.faces.toLocaleString("en")} test faces that get a yes`],
    ["rate", "share of the training faces that have it"]];
  return make("ul", { class: "demo-small demo-legend" },
    ...lines.map(([mark, text]) => make("li", {}, make("span", { class: `demo-mark ${mark}` }), text)),
    make("li", {}, "found: of the test faces that have it, the share that gets a yes; false alarms: the same of those without it"));
}

// One of the files with a person's pictures, decoded; each is asked for once.
const sheets = new Map();
function sheet(name) {
  if (!sheets.has(name)) {
    const image = new Image();
    image.src = new URL(`${name}.webp`, import.meta.url);
    sheets.set(name, image.decode().then(() => image));
  }
  return sheets.get(name);
}

export function face(facts) {
  const [width, height] = facts.size;
  const canvas = make("canvas", { width, height, tabindex: 0, role: "application", "aria-label": "The face", "aria-describedby":
    "demo-how", class: "demo-canvas" });
  const [paint, clean, both] = Array.from({ length: 3 }, () => make("canvas", { width, height }));
  const seen = make("canvas", { width: SIZE, height: SIZE, class: "demo-seen", role: "img", "aria-label": "What the network sees" });
  const [pen, brush, tile, whole, eye] = [canvas, paint, clean, both, seen].map(
    each => each.getContext("2d", { willReadFrequently: true }));
  const at = { x: width / 2, y: height / 2 };
  const { node: words, say } = status();
  const answers = table(facts);
  let person = facts.people[0], turn = 0, colour = "grey", radius = 12, threshold = 50, network, painted = false;
  let now, before, asking = false, again = false, stale = true;

  const boxes = facts.switches.map(name => make("input", { type: "checkbox", value: name, onchange: compose }));
  const on = () => boxes.filter(box => box.checked).map(box => box.value);
  const people = choice("person", facts.people.map(({ words: text }, i) => [i, text]), i => {
    person = facts.people[i];
    wipe(false);
    compose();
  });
  const colours = choice("paint", Object.keys(COLOURS).map(name => [name, name === "grey" ? "grey, as in its training" : name]),
    name => { colour = name; });
  const size = slider("brush", { min: 4, max: 30, value: radius, said: value => `${2 * value} pixels` }, value => { radius = value; });
  const cut = slider("threshold", { min: 1, max: 99, value: threshold, said: value => `yes above ${value}%` },
    value => { threshold = value; show(); });

  async function compose() {
    const number = boxes.reduce((sum, box, i) => sum + (box.checked ? 2 ** i : 0), 0), mine = ++turn;
    const part = Math.floor(number / facts.per_file), k = number % facts.per_file;
    const picture = await sheet(`${person.file}_${part}`);
    if (mine !== turn) return;  // something else was chosen meanwhile
    tile.drawImage(picture, k % facts.columns * width, Math.floor(k / facts.columns) * height, width, height, 0, 0, width, height);
    stale = true;
    draw();
  }

  function draw() {
    pen.drawImage(clean, 0, 0);
    pen.drawImage(paint, 0, 0);
    ask();
    if (document.activeElement === canvas) {
      pen.strokeStyle = "white";
      pen.lineWidth = 2;
      pen.setLineDash([4, 3]);
      pen.beginPath();
      pen.arc(at.x, at.y, radius, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  // The pixels of the face, with the paint or without it, but never with the brush's outline.
  function pixels(withPaint) {
    whole.drawImage(clean, 0, 0);
    if (withPaint) whole.drawImage(paint, 0, 0);
    return squeeze(whole.getImageData(0, 0, width, height), SIZE);
  }

  // One question at a time; what has changed meanwhile is asked afterwards.
  async function ask() {
    again = true;
    if (asking || !network) return;
    asking = true;
    while (again) {
      again = false;
      if (stale) {
        stale = false;
        before = await network(pixels(false));
      }
      const planes = pixels(true);
      now = await network(planes);
      const small = new ImageData(SIZE, SIZE);
      for (let i = 0; i < SIZE * SIZE; i++) {
        for (let c = 0; c < 3; c++) small.data[4 * i + c] = planes[c * SIZE * SIZE + i];
        small.data[4 * i + 3] = 255;
      }
      eye.putImageData(small, 0, 0);
      show();
    }
    asking = false;
  }

  function show() {
    if (!now) return;
    const real = truth(facts, person, on()), limit = threshold / 100;
    answers.node.style.setProperty("--cut", limit);
    let yes = 0, right = 0, majority = 0;
    for (const { a, name, track, answer, found, wrong } of answers.rows) {
      const p = now[a], said = p > limit, correct = said === real.has(name), s = score(facts, a, threshold);
      yes += said;
      right += correct;
      majority += (facts.rates[a] > 0.5) === real.has(name);
      for (const [key, value] of Object.entries({ "--p": p, "--was": before[a], "--said": s.said / facts.faces })) {
        track.style.setProperty(key, value);
      }
      track.className = `demo-track ${correct ? "" : "wrong"} ${painted && Math.abs(p - before[a]) > 0.02 ? "painted" : ""}`;
      answer.replaceChildren(percent(p), make("span", { class: "demo-word" }, said ? " yes" : " no"),
        make("span", { class: "demo-hidden" }, correct ? "right" : "wrong"),
        make("span", { class: "demo-cross", "aria-hidden": "true" }, correct ? "" : "✗"));
      found.textContent = rate(s.found);
      wrong.textContent = rate(s.wrong);
    }
    const sum = `Yes to ${yes} of 40 questions, ${right} right; never looking: ${majority} right.`;
    say(`${painted ? changes() : UNPAINTED} ${sum}`);
  }

  // The three answers that the paint has changed most.
  function changes() {
    const most = facts.attributes.map((name, a) => [name, before[a], now[a]]).sort(
      (one, other) => Math.abs(other[2] - other[1]) - Math.abs(one[2] - one[1]));
    return `The paint changes most: ${most.slice(0, 3).map(([name, was, is]) => `${plain(name)} ${percent(was)} → ${percent(is)}`).join(", ")}.`;
  }

  function dab(x, y, from) {
    brush.strokeStyle = brush.fillStyle = COLOURS[colour](person);
    brush.lineWidth = 2 * radius;
    brush.lineCap = "round";
    brush.beginPath();
    brush.moveTo(from?.x ?? x, from?.y ?? y);
    brush.lineTo(x + 0.01, y);
    brush.stroke();
    painted = true;
    Object.assign(at, { x, y });
    draw();
  }

  function wipe(again = true) {
    brush.clearRect(0, 0, width, height);
    painted = false;
    if (again) draw();
  }

  function cover(place) {
    brush.fillStyle = COLOURS[colour](person);
    brush.fillRect(...person[place]);
    painted = true;
    draw();
  }

  async function glasses() {
    boxes[facts.switches.indexOf("Eyeglasses")].checked = true;
    wipe(false);
    await compose();
    cover("glasses");
  }

  const spot = event => {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width * width, y: (event.clientY - box.top) / box.height * height };
  };
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    const { x, y } = spot(event);
    dab(x, y);
  });
  canvas.addEventListener("pointermove", event => {
    if (!event.buttons) return;
    const { x, y } = spot(event);
    dab(x, y, { ...at });
  });
  canvas.addEventListener("keydown", event => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      at.x = Math.min(width, Math.max(0, at.x + STRIDE * step[0]));
      at.y = Math.min(height, Math.max(0, at.y + STRIDE * step[1]));
      draw();
    } else if (event.key === " " || event.key === "Enter") dab(at.x, at.y);
    else if (event.key === "Delete" || event.key === "Backspace") wipe();
    else return;
    event.preventDefault();
  });
  for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, draw);

  async function wake() {
    say("The network is on its way (14 MB) …");
    try {
      await compose();
      network = await loadNetwork(SIZE);
      ask();
    } catch (error) {
      say(`The network can't answer in this browser: ${error.message}`);
    }
  }

  const button = (text, act) => make("button", { type: "button", onclick: act }, text);
  const node = make("div", { class: "demo-part demo-face" },
    make("div", { class: "demo-left" },
      make("div", { class: "demo-row" }, people.node),
      make("div", { class: "demo-row" }, canvas, make("figure", {}, seen, make("figcaption", {}, "what the network sees"))),
      make("div", { class: "demo-row" }, button("Cover the glasses", glasses), button("Cover the mouth", () => cover("mouth")),
        button("Wipe it off", () => wipe())),
      words,
      make("p", { id: "demo-how", class: "demo-small" }, HOW),
      make("div", { class: "demo-row" }, colours.node, size.node)),
    make("div", { class: "demo-right" },
      make("fieldset", {}, make("legend", {}, "This person has"), ...boxes.map(box => make("label", {}, box, ` ${plain(box.value)}`))),
      cut.node, legend(facts), answers.node));
  wake();
  return node;
}
