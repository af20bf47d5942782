// Puts each part of the demo in the place of its picture. Where something is missing, the picture stays, and a sentence says why.
import { face } from "./face.js";
import { heaps } from "./heaps.js";
import { kernel } from "./kernel.js";
import { make } from "./parts.js";
import { valley } from "./valley.js";

const PARTS = { face, kernel, valley, heaps };
const MISSING = "This site was built where onnxruntime-web could not be had, so the network can't answer here. The other three parts "
  + "work.";

async function start() {
  const answer = await fetch(new URL("demo.json", import.meta.url));
  const facts = await answer.json();
  for (const place of document.querySelectorAll("[data-demo]")) {
    const part = PARTS[place.dataset.demo];
    if (place.dataset.demo === "face") offer(place, () => part(facts));
    else place.replaceChildren(part(facts));
  }
}

// The network is large, so it comes when a reader asks for it. The button is as high as the sentence in whose place it is.
function offer(place, build) {
  const slot = place.querySelector(".demo-slot");
  slot.style.minHeight = `${slot.offsetHeight}px`;
  slot.replaceChildren(place.dataset.runtime ? make("div", { class: "demo-part" },
    make("button", { type: "button", class: "demo-start", onclick: () => {
      place.replaceChildren(build());
      place.querySelector("select").focus({ preventScroll: true });
      place.scrollIntoView({ block: "start" });
    } }, "Start the demo (it loads 14 MB)")) : make("p", {}, MISSING));
}

start();
