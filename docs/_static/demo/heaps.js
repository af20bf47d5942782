// Lesson 04's two heaps: the probabilities of the test faces with an attribute and without it, and a threshold between them.
import { choice, make, plain, rate, slider, status } from "./parts.js";

const WIDTH = 360, HEIGHT = 160, BINS = 25;

// Counts of probabilities in equal parts of [0, 1], from how many are above each hundredth.
export const bins = above => Array.from({ length: BINS }, (_, i) => {
  const step = 100 / BINS;
  return (i ? above[i * step] : above.total) - (i + 1 < BINS ? above[(i + 1) * step] : 0);
});

// What a threshold, in hundredths, makes of an attribute's test faces.
export function score(facts, a, threshold) {
  const yes = facts.positives[a], no = facts.faces - yes;
  const found = facts.found[a][threshold], wrong = facts.false[a][threshold];
  return { found: found / yes, wrong: wrong / no, precision: found / Math.max(1, found + wrong), said: found + wrong,
    accuracy: (found + no - wrong) / facts.faces, balanced: (found / yes + 1 - wrong / no) / 2,
    never: Math.max(yes, no) / facts.faces };
}

export function heaps(facts) {
  let a = facts.attributes.indexOf("Eyeglasses"), threshold = 50;
  const { node: words, say } = status();
  const picture = make("svg:svg", { viewBox: `-22 -10 ${WIDTH + 44} ${HEIGHT + 50}`, role: "img", class: "demo-plot" });
  const chosen = choice("question", facts.attributes.map((name, i) => [i, plain(name)]), value => { a = Number(value); show(); });
  chosen.select.value = a;
  const cut = slider("threshold", { min: 1, max: 99, value: threshold, said: value => `${value}%` }, value => { threshold = value; show(); });
  const cells = ["found (recall)", "false alarms", "right when it says yes (precision)", "accuracy", "accuracy of never looking",
    "balanced accuracy"].map(name => [make("th", { scope: "row" }, name), make("td")]);

  function show() {
    const totals = [facts.faces - facts.positives[a], facts.positives[a]];
    const heights = [facts.false[a], facts.found[a]].map((above, k) => bins(Object.assign([...above], { total: totals[k] }))
      .map(count => count / totals[k]));
    const most = Math.max(...heights.flat());
    const bars = heights.flatMap((heap, k) => heap.map((share, i) => make("svg:rect", {
      class: `demo-heap-${k ? "yes" : "no"}`, x: i * WIDTH / BINS + 0.5, width: WIDTH / BINS - 1,
      y: HEIGHT - share / most * HEIGHT, height: share / most * HEIGHT })));
    const place = threshold / 100 * WIDTH;
    picture.replaceChildren(make("svg:path", { class: "demo-axis", d: `M0 ${HEIGHT}H${WIDTH}` }), ...bars,
      make("svg:path", { class: "demo-cut", d: `M${place} -6V${HEIGHT}` }),
      ...[0, 25, 50, 75, 100].map(value => make("svg:text", { x: value / 100 * WIDTH, y: HEIGHT + 18, "text-anchor": "middle" }, `${value}%`)),
      make("svg:text", { x: WIDTH / 2, y: HEIGHT + 36, "text-anchor": "middle" }, "probability of yes"));
    const s = score(facts, a, threshold);
    [s.found, s.wrong, s.precision, s.accuracy, s.never, s.balanced].forEach((value, i) => { cells[i][1].textContent = rate(value); });
    if (!s.said) cells[2][1].textContent = "–";
    const said = `${plain(facts.attributes[a])}, yes above ${threshold}%: ${rate(s.found)} of the ${totals[1]} faces that have it `
      + `are found, and ${rate(s.wrong)} of the ${totals[0]} others are false alarms.`;
    picture.setAttribute("aria-label", `Two heaps of probabilities, each of the same area. ${said}`);
    say(said);
  }

  show();
  const key = make("p", { class: "demo-key" }, make("span", { class: "demo-mark no" }), " faces without it ",
    make("span", { class: "demo-mark yes" }), " faces that have it");
  return make("div", { class: "demo-part" }, make("div", { class: "demo-row" }, chosen.node, cut.node),
    make("div", { class: "demo-row" }, make("div", { class: "demo-grow" }, picture, key),
      make("table", { class: "demo-scores" }, make("tbody", {}, ...cells.map(pair => make("tr", {}, ...pair))))), words);
}
