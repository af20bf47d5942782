// Puts each part of the demo in the place of its picture. Where something is missing, the picture stays, and a sentence says why.
import { face } from "./face.js";
import { heaps } from "./heaps.js";
import { kernel } from "./kernel.js";
import { make } from "./parts.js";
import { valley } from "./valley.js";

const PARTS = { face, kernel, valley, heaps };

async function start() {
  const places = document.querySelectorAll("[data-demo]");
  const answer = await fetch(new URL("demo.json", import.meta.url));
  const facts = await answer.json();
  document.querySelector(".demo-fallback").hidden = true;
  for (const place of places) {
    if (place.dataset.demo === "face" && !place.dataset.runtime) {
      place.append(make("p", {}, "This site was built where onnxruntime-web could not be had, so the network can't answer here. "
        + "The other three parts work."));
      continue;
    }
    place.replaceChildren(await PARTS[place.dataset.demo](facts));
  }
}

start();
