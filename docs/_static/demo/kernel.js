// A kernel moves over a face: nine pixels, nine weights, nine products and their sum.
import { choice, make, slider, status } from "./parts.js";

const KERNELS = {
  "vertical edges": [-1, 0, 1, -2, 0, 2, -1, 0, 1],
  "horizontal edges": [-1, -2, -1, 0, 0, 0, 1, 2, 1],
  outlines: [-1, -1, -1, -1, 8, -1, -1, -1, -1],
  sharpen: [0, -1, 0, -1, 5, -1, 0, -1, 0],
  blur: Array(9).fill(1 / 9),
};
const ZOOM = 9;

// What a kernel makes of the 3×3 pixels around each place; pixels are in [0, 1].
export function convolve(pixels, side, weights) {
  const out = side - 2;
  return Array.from({ length: out * out }, (_, i) => weights.reduce(
    (sum, weight, k) => sum + weight * pixels[(Math.floor(i / out) + Math.floor(k / 3)) * side + i % out + k % 3], 0));
}

function paint(canvas, values, side, [low, high]) {
  const pen = canvas.getContext("2d");
  values.forEach((value, i) => {
    const grey = Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low))));
    pen.fillStyle = `rgb(${grey} ${grey} ${grey})`;
    pen.fillRect(i % side * ZOOM, Math.floor(i / side) * ZOOM, ZOOM, ZOOM);
  });
}

function frame(canvas, x, y, side) {
  const pen = canvas.getContext("2d");
  pen.strokeStyle = "#ff7a1a";
  pen.lineWidth = 3;
  pen.strokeRect(x * ZOOM, y * ZOOM, side * ZOOM, side * ZOOM);
}

// A table of nine numbers; the largest are the strongest in colour.
function nine(title) {
  const cells = Array.from({ length: 9 }, () => make("td"));
  const rows = [0, 3, 6].map(i => make("tr", {}, ...cells.slice(i, i + 3)));
  const show = (numbers, digits) => numbers.forEach((number, i) => {
    cells[i].textContent = (number === 0 ? 0 : number).toFixed(digits).replace("-", "−");
    cells[i].style.setProperty("--much", Math.min(1, Math.abs(number) / 2));
    cells[i].className = number < 0 ? "negative" : "positive";
  });
  return { node: make("table", { class: "demo-nine" }, make("caption", {}, title), make("tbody", {}, ...rows)), show };
}

export function kernel(facts) {
  const { side, pixels: bytes } = facts.kernel_face;
  const pixels = bytes.map(byte => byte / 255), out = side - 2;
  const input = make("canvas", { width: side * ZOOM, height: side * ZOOM, role: "img", "aria-label": "The face in grey, with the "
    + "kernel's window", onpointerdown: drag, onpointermove: drag });
  const result = make("canvas", { width: out * ZOOM, height: out * ZOOM, role: "img", "aria-label": "What the kernel answers at "
    + "each place" });
  const [under, weights, products] = ["nine pixels", "kernel", "products"].map(nine);
  const { node: line, say } = status();
  const at = { x: 8, y: 11 };
  let name = "vertical edges", answers = [], timer;

  const column = slider("column", { min: 0, max: out - 1, value: at.x }, x => { stop(); move(x, at.y); });
  const row = slider("row", { min: 0, max: out - 1, value: at.y }, y => { stop(); move(at.x, y); });
  const chosen = choice("kernel", Object.keys(KERNELS).map(key => [key, key]), key => { name = key; compute(); });
  const play = make("button", { type: "button", onclick: () => timer ? stop() : run() }, "Move it over the whole face");

  function drag(event) {
    if (!event.buttons && event.type !== "pointerdown") return;
    const box = input.getBoundingClientRect();
    stop();
    move(...[(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map(
      share => Math.min(out - 1, Math.max(0, Math.floor(share * side) - 1))));
  }

  function compute() {
    answers = convolve(pixels, side, KERNELS[name]);
    move(at.x, at.y);
  }

  function move(x, y) {
    Object.assign(at, { x, y });
    column.show(x);
    row.show(y);
    const window = KERNELS[name].map((_, k) => pixels[(y + Math.floor(k / 3)) * side + x + k % 3]);
    const sum = answers[y * out + x], most = Math.max(...answers.map(Math.abs));
    under.show(window, 2);
    weights.show(KERNELS[name], name === "blur" ? 2 : 0);
    products.show(window.map((pixel, k) => pixel * KERNELS[name][k]), 2);
    paint(input, pixels, side, [0, 1]);
    frame(input, x, y, 3);
    const positive = Math.min(...answers) >= 0;
    paint(result, answers, out, positive ? [0, 1] : [-most, most]);
    frame(result, x, y, 1);
    say(`${name}, column ${x}, row ${y}: the nine products add up to ${sum.toFixed(2).replace("-", "−")}.`);
  }

  // In about five seconds from the first place to the last, at the pace of the screen.
  function run() {
    let began;  // by the first frame's clock, which may be behind performance.now()
    play.style.minWidth = `${play.getBoundingClientRect().width}px`;  // a narrower button would leave the pointer, and its row
    play.textContent = "Stop";
    const step = now => {
      began ??= now;
      const i = Math.floor((now - began) / 5000 * out * out);
      if (i >= out * out) return stop();
      move(i % out, Math.floor(i / out));
      timer = requestAnimationFrame(step);
    };
    timer = requestAnimationFrame(step);
  }

  function stop() {
    cancelAnimationFrame(timer);
    timer = undefined;
    play.textContent = "Move it over the whole face";
  }

  compute();
  return make("div", { class: "demo-part" },
    make("div", { class: "demo-row" }, chosen.node, column.node, row.node, play),
    make("div", { class: "demo-row demo-maps" },
      make("figure", {}, input, make("figcaption", {}, `the face: ${side} × ${side} pixels, nine of them framed`)),
      make("figure", {}, result, make("figcaption", {}, `the sums: ${out} × ${out}, one for each place`))),
    make("div", { class: "demo-row demo-sum" }, under.node, make("span", {}, "×"), weights.node, make("span", {}, "="), products.node),
    line);
}
