// What scrolls sideways can be reached with the keyboard, and shows that there is more. The observer calls when the layout is
// done: asking costs nothing.
const hidden = box => box.scrollWidth - box.clientWidth - box.scrollLeft;
const boxes = new ResizeObserver(entries => {
  const found = entries.map(({ target }) => [target.scrollWidth > target.clientWidth, hidden(target) > 1]);
  entries.forEach(({ target }, i) => {
    found[i][0] ? target.tabIndex = 0 : target.removeAttribute("tabindex");
    target.classList.toggle("more", found[i][1]);
  });
});
for (const box of document.querySelectorAll("pre, .cell_output, .table-wrapper, div.math")) {
  boxes.observe(box);
  box.addEventListener("scroll", () => box.classList.toggle("more", hidden(box) > 1), { passive: true });
}

// On a phone a row of a table is a card, which needs the names of the columns.
addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.docutils")) {
    const names = [...table.querySelectorAll("thead th")].map(cell => cell.textContent);
    table.classList.add("cards");
    for (const row of table.tBodies[0].rows) {
      [...row.cells].slice(1).forEach((cell, i) => {
        if (!cell.textContent.trim() && !cell.querySelector("img")) cell.replaceChildren();  // empty, also for CSS
        if (names[i + 1]) cell.dataset.column = names[i + 1];
      });
    }
  }
});

// A link to a term of the glossary shows the term's text while the pointer or the keyboard's focus is on it; Escape hides it.
// A finger has no pointer: a tap shows the text, and below it the link; a second tap on the term follows it, too.
const term = Object.assign(document.createElement("div"), { id: "term", hidden: true });
term.setAttribute("role", "tooltip");
let leaving, touched = false, again = false;
document.addEventListener("pointerdown", event => {
  touched = event.pointerType === "touch";
  again = Boolean(event.target.closest?.("[aria-describedby=term]"));
}, true);
function hide() {
  term.hidden = true;
  document.querySelector("[aria-describedby=term]")?.removeAttribute("aria-describedby");
}
function show(event) {
  clearTimeout(leaving);
  const link = event.target.closest?.("a[data-term]");
  if (!link) return;
  hide();
  const box = link.getBoundingClientRect();
  term.replaceChildren(link.dataset.term);
  if (touched) term.append(Object.assign(document.createElement("a"), { href: link.href, textContent: "Open the glossary →" }));
  term.hidden = false;
  term.style.left = `${Math.max(0, Math.min(box.left, document.documentElement.clientWidth - term.offsetWidth - 16)) + scrollX}px`;
  const below = box.bottom + 4, above = box.top - term.offsetHeight - 4;
  term.style.top = `${(below + term.offsetHeight > innerHeight && above > 0 ? above : below) + scrollY}px`;
  link.setAttribute("aria-describedby", "term");
}
addEventListener("DOMContentLoaded", () => {
  document.body.append(term);
  for (const link of document.querySelectorAll('a[title][href*="glossary.html#"]')) {
    link.dataset.term = link.title;
    link.removeAttribute("title");  // or the browser shows it, too
  }
});
for (const event of ["mouseover", "focusin"]) document.addEventListener(event, show);
for (const event of ["mouseout", "focusout"]) document.addEventListener(event, () => { leaving = setTimeout(hide, 200); });
document.addEventListener("keydown", event => event.key === "Escape" && hide());
document.addEventListener("click", event => {
  if (!touched || again || !event.target.closest?.("a[data-term]")) return;
  event.preventDefault();
  show(event);
});

// The search puts pages first whose title has all words.
if (typeof Search !== "undefined") {
  const [, words] = Search._parseQuery(new URLSearchParams(location.search).get("q") ?? "");
  Scorer.score = ([, title, , , score]) => score + (words.size && [...words].every(word => title.toLowerCase().includes(word)) ? 10 : 0);
}

// A result of the search leads to the first section with all words, and shows what stands there.
addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const summarize = Search.makeSearchSummary;
  const text = node => node.textContent.toLowerCase();
  Search.makeSearchSummary = (html, words, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html").querySelector("[role=main]");
    page.querySelectorAll("script, .headerlink").forEach(node => node.remove());
    const whole = node => node && [...words].every(word => text(node).includes(word));
    const heading = node => node.querySelector(":scope > :is(h1, h2, h3, h4)");
    const sections = [...page.querySelectorAll("section[id]")].filter(whole);
    const place = anchor ? page.querySelector(`[id="${anchor.slice(1)}"]`) : sections.find(node => whole(heading(node)))
      ?? sections.find(node => ![...node.querySelectorAll("section")].some(whole));
    const summary = summarize(`<div role="main">${(place?.closest("li, dd") ?? place ?? page).outerHTML}</div>`, words, "");
    if (!place) return summary;
    queueMicrotask(() => {
      const link = summary.parentNode.querySelector("a"), name = (heading(place) ?? place).textContent;
      if (!anchor) link.hash = place.id;
      if (name.length < 80 && !link.textContent.includes(name)) link.append(` › ${name}`);
    });
    return summary;
  };
});
