// What scrolls sideways can be reached with the keyboard.
function reachable() {
  for (const box of document.querySelectorAll("pre, .cell_output, .table-wrapper, div.math")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
addEventListener("load", reachable);
addEventListener("resize", reachable);
document.addEventListener("toggle", reachable, true);  // a fold that was opened
