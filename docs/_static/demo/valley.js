// Lesson 03's valley: the loss of one number b, the logit for every face, and twelve steps down it.
import { make, slider, status } from "./parts.js";

const START = 3, STEPS = 12, WIDTH = 360, HEIGHT = 200, LEFT = -7, RIGHT = 5, TOP = 4;

const softplus = b => Math.max(b, 0) + Math.log1p(Math.exp(-Math.abs(b)));
const sigmoid = b => 1 / (1 + Math.exp(-b));

// Binary cross-entropy where a share of the faces smiles and each has the logit b.
export const loss = (b, share) => share * softplus(-b) + (1 - share) * softplus(b);

// The places of b: b ← b − lr · slope.
export function descend(lr, share) {
  const path = [START];
  for (let i = 0; i < STEPS; i++) path.push(path.at(-1) - lr * (sigmoid(path.at(-1)) - share));
  return path;
}

// What the last steps say about the learning rate; the valley is lowest at b = bottom.
function verdict(path, bottom, share) {
  const sides = path.slice(-3).map(b => Math.sign(b - bottom));
  if (loss(path.at(-1), share) - loss(bottom, share) < 0.005) return "It has arrived.";
  return sides.every(side => side === sides[0]) ? "Too slow: it is still on its way." : "Too fast: it jumps from side to side.";
}

export function valley(facts) {
  const share = facts.smiles, bottom = Math.log(share / (1 - share)), x = b => (b - LEFT) / (RIGHT - LEFT) * WIDTH, y = value => HEIGHT - value / TOP * HEIGHT;
  const line = points => points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const ground = Array.from({ length: 121 }, (_, i) => LEFT + i / 10).map(b => [b, loss(b, share)]);
  const path = make("svg:path", { class: "demo-path" }), dots = make("svg:g", { class: "demo-dots" });
  const { node: words, say } = status();
  const picture = make("svg:svg", { viewBox: `-30 -10 ${WIDTH + 45} ${HEIGHT + 50}`, role: "img", class: "demo-plot" },
    make("svg:path", { class: "demo-axis", d: `M0 0V${HEIGHT}H${WIDTH}` }),
    make("svg:path", { class: "demo-ground", d: line(ground) }), path, dots,
    ...[-6, -4, -2, 0, 2, 4].map(b => make("svg:text", { x: x(b), y: HEIGHT + 18, "text-anchor": "middle" }, String(b).replace("-", "−"))),
    ...[1, 2, 3, 4].map(value => make("svg:text", { x: -8, y: y(value) + 4, "text-anchor": "end" }, String(value))),
    make("svg:text", { x: WIDTH / 2, y: HEIGHT + 36, "text-anchor": "middle" }, "b, the logit for every face"),
    make("svg:text", { x: 6, y: 6 }, "loss"));
  const rate = slider("learning rate", { min: 0.1, max: 16, step: 0.1, value: 0.5, said: lr => lr.toFixed(1) }, show);

  function show(lr) {
    const places = descend(lr, share), end = loss(places.at(-1), share);
    const points = places.map(b => [b, loss(b, share)]);
    path.setAttribute("d", line(points));
    dots.replaceChildren(...points.map(([b, value]) => make("svg:circle", { cx: x(b), cy: y(value), r: 4 })));
    const said = `With ${lr.toFixed(1)}, the loss after ${STEPS} steps is ${end.toFixed(3)}; the lowest is `
      + `${loss(bottom, share).toFixed(3)}. ${verdict(places, bottom, share)}`;
    picture.setAttribute("aria-label", `The valley of the loss, and the steps in it. ${said}`);
    say(said);
  }

  show(0.5);
  return make("div", { class: "demo-part" }, make("div", { class: "demo-row" }, rate.node), picture, words);
}
