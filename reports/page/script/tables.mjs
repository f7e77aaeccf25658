// SPDX-License-Identifier: Apache-2.0
// Tables that sort by the heading that is pressed: down, up, then as they were.
// @ts-check

import {sortKey} from "./format.mjs";

const FEWEST_ROWS = 4;

/** Order of the rows by one column; cells without a number come last.
 * @param {string[]} cells @param {boolean} numeric @param {boolean} descending @returns {number[]} */
export function sortedOrder(cells, numeric, descending) {
  const keys = cells.map((text) => (numeric ? sortKey(text) : text));
  const sign = descending ? -1 : 1;
  return cells.map((_, i) => i).sort((a, b) => {
    const x = keys[a], y = keys[b];
    if (typeof x === "string" || typeof y === "string") return sign * String(x).localeCompare(String(y), "en", {numeric: true});
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y)) || a - b;
    return sign * (x - y) || a - b;
  });
}

/** @param {HTMLTableElement} table */
function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...(table.tHead?.rows[0].cells ?? [])];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const was = head.getAttribute("aria-sort");
      const first = numeric ? "descending" : "ascending", second = numeric ? "ascending" : "descending";
      const now = was === null ? first : was === first ? second : null;
      for (const other of heads) other.removeAttribute("aria-sort");
      if (now === null) return void body.append(...original);
      head.setAttribute("aria-sort", now);
      const cells = original.map((row) => row.cells[column]?.textContent ?? "");
      body.append(...sortedOrder(cells, numeric, now === "descending").map((i) => original[i]));
    });
  });
}

/** @param {Document} page */
export function sortTables(page) {
  for (const table of page.querySelectorAll("table:not(.heat)")) {
    const body = /** @type {HTMLTableElement} */ (table).tBodies[0];
    if (body && body.rows.length >= FEWEST_ROWS) makeSortable(/** @type {HTMLTableElement} */ (table));
  }
}
