// SPDX-License-Identifier: Apache-2.0
// Starts what needs scripts. Without it the page is complete: tables and still pictures.
// @ts-check

import {sortTables} from "./tables.mjs";
import {Timeline} from "./timeline.mjs";

/** Folded parts are printed too. */
function openForPrint() {
  const opened = /** @type {HTMLDetailsElement[]} */ ([]);
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not([open])")) {
      opened.push(/** @type {HTMLDetailsElement} */ (part));
      /** @type {HTMLDetailsElement} */ (part).open = true;
    }
  });
  addEventListener("afterprint", () => {
    for (const part of opened.splice(0)) part.open = false;
  });
}

/** Links to windows also show the window in the timeline.
 * @param {Timeline} timeline */
function linkWindows(timeline) {
  for (const link of document.querySelectorAll("a[data-ordinal]")) {
    link.addEventListener("click", () => timeline.selectOrdinal(Number(link.getAttribute("data-ordinal"))));
  }
}

/** What scrolls can be reached by keys, and nothing else is a stop on the way. */
function focusScrollers() {
  for (const box of document.querySelectorAll(".scroll")) {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (scrolls) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  }
}

focusScrollers();
addEventListener("resize", focusScrollers);
sortTables(document);
openForPrint();
const place = document.getElementById("timeline-live");
const data = document.getElementById("report");
if (place && data) {
  const report = JSON.parse(data.textContent ?? "");
  if (report.step) {
    const timeline = new Timeline(place, report);
    document.documentElement.classList.add("live");
    timeline.resize();
    linkWindows(timeline);
  }
}
