// SPDX-License-Identifier: Apache-2.0
// The timeline under the reader's hands: pointer, wheel, keys, search, a select of the scenario.
// @ts-check

import {armsOf, placeOrdinals, prefetchLane} from "./arms.mjs";
import {coloursOf, hit, MINI_HEIGHT, Painter, placeRows} from "./draw.mjs";
import {formatSize, formatTime} from "./format.mjs";
import {traceEvents} from "./trace.mjs";
import {panView, zoomView, clampView} from "./view.mjs";

const HELP = "Drag or arrow keys move, Ctrl+wheel or + and \u2212 zoom, 0 shows all, comma and full stop step " +
  "through the operators.";

/** @param {string} tag @param {Record<string, string>} attributes @param {...(Node | string)} children */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** @param {any} report @param {number} index of the scenario, -1: the recording alone
 * @returns {import("./draw.mjs").Scene} */
export function sceneOf(report, index) {
  const scenario = index < 0 ? null : report.scenarios[index];
  const arms = armsOf(report.step, scenario);
  const fetched = scenario?.plan.windows.some((/** @type {any} */ w) => w.used_bytes > 0);
  const prefetches = fetched ? prefetchLane(arms[1], scenario.plan.windows) : null;
  const reads = arms[0].bytes.some((bytes) => bytes > 0);
  const {rows, height} = placeRows(arms, prefetches, Boolean(fetched), reads);
  const rates = report.recording.machines.map((/** @type {any} */ m) => m.memory_bandwidth_bytes_per_s).filter(Boolean);
  return {ops: report.step.operators, scenario, arms, rows, height, endNs: Math.max(...arms.map((arm) => arm.endNs)),
          peakBytesPerS: rates.length > 0 ? Math.max(...rates) : null};
}

/** Operators whose name holds the words.
 * @param {{name: string}[]} ops @param {string} words */
export function findOperators(ops, words) {
  const wanted = words.trim().toLowerCase();
  if (wanted === "") return [];
  return ops.map((_, i) => i).filter((i) => ops[i].name.toLowerCase().includes(wanted));
}

/** What is known of an operator, a line per fact.
 * @param {import("./draw.mjs").Scene} scene @param {number} op */
export function describeOperator(scene, op) {
  const {ordinal, name, kind, weight_bytes, kv_bytes} = scene.ops[op];
  const lines = [`${ordinal}. ${name} (${kind})`];
  for (const arm of scene.arms) lines.push(`${arm.name} ${formatTime(arm.dur[op])}, from ${formatTime(arm.start[op])}`);
  if (weight_bytes > 0) lines.push(`weights ${formatSize(weight_bytes)}`);
  if (kv_bytes > 0) lines.push(`KV ${formatSize(kv_bytes)}`);
  for (const window of scene.scenario?.plan.windows ?? []) {
    if (window.ordinal === op && window.used_bytes > 0) {
      lines.push(`window: ${formatSize(window.used_bytes)} of ${formatSize(window.capacity_bytes)} used`);
    }
    for (const p of window.prefetches) {
      if (p.consumer_ordinal !== op && window.ordinal !== op) continue;
      if (lines.length > 14) return [...lines, "…"];
      lines.push(p.consumer_ordinal === op ? `${formatSize(p.length_bytes)} fetched under ${scene.ops[window.ordinal].ordinal}. ${window.name}`
        : `fetches ${formatSize(p.length_bytes)} of ${p.tensor} for ${scene.ops[p.consumer_ordinal].ordinal}. ${p.consumer}`);
    }
  }
  return lines;
}

export class Timeline {
  /** @param {HTMLElement} place @param {any} report */
  constructor(place, report) {
    this.report = report;
    this.places = placeOrdinals(report);
    this.marked = /** @type {Set<number>} */ (new Set());
    this.selected = -1;
    this.found = 0;
    this.painter = /** @type {Painter | null} */ (null);
    this.asked = false;
    this.canvas = /** @type {HTMLCanvasElement} */ (make("canvas", {
      tabindex: "0", role: "application", "aria-label": `Timeline of one step. ${HELP}`, class: "timeline"}));
    this.tip = make("div", {class: "tip", hidden: ""});
    this.details = make("div", {class: "details", role: "status"});
    this.search = /** @type {HTMLInputElement} */ (make("input", {
      type: "search", placeholder: "Find an operator", "aria-label": "Find an operator"}));
    this.count = make("span", {role: "status", class: "count"});
    const first = report.scenarios.length > 0 ? this.richest() : -1;
    this.scene = sceneOf(report, first);
    this.view = {from: 0, to: this.scene.endNs};
    this.build(place);
    this.choose(first);
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.resize());
  }

  /** The first scenario that fetches anything, measured operator by operator if there is one. */
  richest() {
    const worth = this.report.scenarios.map((/** @type {any} */ s) =>
      (s.plan.windows.some((/** @type {any} */ w) => w.used_bytes > 0) ? 2 : 0) +
      (s.operators.some((/** @type {any} */ o) => o.prefetch_ns !== null) ? 1 : 0));
    return worth.indexOf(Math.max(...worth));
  }

  /** @param {HTMLElement} place */
  build(place) {
    const button = (/** @type {string} */ text, /** @type {string} */ title, /** @type {() => void} */ press) => {
      const element = make("button", {type: "button", title}, text);
      if (text.length === 1) element.setAttribute("aria-label", title);
      element.addEventListener("click", press);
      return element;
    };
    const bar = make("div", {class: "bar"}, this.search, this.count,
      button("+", "Zoom in", () => this.zoom(0.5)), button("\u2212", "Zoom out", () => this.zoom(2)),
      button("Show all", "Show the whole step", () => this.show({from: 0, to: this.scene.endNs})), this.linkToTrace());
    if (this.report.scenarios.length > 1) bar.prepend(this.scenarioSelect());
    place.append(bar, make("div", {class: "canvas-box"}, this.canvas, this.tip), this.details, make("p", {class: "how"}, HELP));
    this.listen();
  }

  scenarioSelect() {
    const select = /** @type {HTMLSelectElement} */ (make("select", {"aria-label": "Scenario"}));
    this.report.scenarios.forEach((/** @type {any} */ s, /** @type {number} */ i) =>
      select.append(make("option", {value: String(i)}, s.label)));
    select.value = String(this.richest());
    select.addEventListener("change", () => this.choose(Number(select.value)));
    return select;
  }

  /** @param {number} index */
  choose(index) {
    this.scene = sceneOf(this.report, index);
    this.view = {from: 0, to: this.scene.endNs};
    this.canvas.style.height = `${this.scene.height}px`;
    this.canvas.dataset.rows = this.scene.rows.map((row) => `${row.label}:${row.y}`).join(";");
    this.resize();
  }

  resize() {
    const width = this.canvas.clientWidth;
    if (width === 0) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(this.scene.height * ratio);
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    context.scale(ratio, ratio);
    this.painter = new Painter(context, width, width < 600 ? 84 : 150, coloursOf(this.canvas));
    this.repaint();
  }

  repaint() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.canvas.dataset.view = `${this.view.from} ${this.view.to}`;
      this.painter?.paint(this.scene, this.view, this.marked, this.selected);
    });
  }

  /** @param {import("./view.mjs").View} view */
  show(view) {
    this.view = clampView(view, this.scene.endNs);
    this.repaint();
  }

  /** @param {number} factor @param {number} [atNs] */
  zoom(factor, atNs = (this.view.from + this.view.to) / 2) {
    this.show(zoomView(this.view, factor, atNs, this.scene.endNs));
  }

  /** @param {number} share of what is seen */
  pan(share) {
    this.show(panView(this.view, share * (this.view.to - this.view.from), this.scene.endNs));
  }

  /** @param {number} op @param {boolean} [reveal] brings it into view */
  select(op, reveal = true) {
    this.selected = op;
    const arm = this.scene.arms[this.scene.arms.length - 1];
    this.details.replaceChildren(...(op < 0 ? [] : describeOperator(this.scene, op).map((line) => make("div", {}, line))));
    if (op >= 0 && reveal) {
      const from = arm.start[op], dur = arm.dur[op], width = this.view.to - this.view.from;
      const readable = dur < width / 2 && dur > width / 400;
      if (from < this.view.from || from + dur > this.view.to || !readable) {
        const wanted = readable ? width : Math.max(dur * 20, 1000);
        this.show({from: from + dur / 2 - wanted / 2, to: from + dur / 2 + wanted / 2});
      }
    }
    this.repaint();
  }

  /** The operator of that ordinal, when the page holds it.
   * @param {number} ordinal */
  selectOrdinal(ordinal) {
    const place = this.places.get(ordinal);
    if (place !== undefined) this.select(place);
  }

  /** @param {number} step */
  find(step) {
    const hits = findOperators(this.scene.ops, this.search.value);
    this.marked = new Set(hits);
    this.found = hits.length > 0 ? (this.found + step + hits.length) % hits.length : 0;
    this.count.textContent = this.search.value.trim() === "" ? "" : hits.length === 0 ? "none" : `${this.found + 1} of ${hits.length}`;
    this.select(hits.length > 0 ? hits[this.found] : -1);
  }

  /** A link to the scene as a file, which is written when somebody comes near the link.
   * @returns {HTMLAnchorElement} */
  linkToTrace() {
    const link = /** @type {HTMLAnchorElement} */ (make("a", {
      href: "#timeline", download: "timeline.json", title: "Save as JSON that Perfetto opens"}, "Perfetto JSON"));
    let written = /** @type {import("./draw.mjs").Scene | null} */ (null);
    const write = () => {
      if (written === this.scene) return;
      if (written !== null) URL.revokeObjectURL(link.href);
      written = this.scene;
      const json = JSON.stringify(traceEvents(this.scene.ops, this.scene.arms, this.scene.scenario));
      link.href = URL.createObjectURL(new Blob([json], {type: "application/json"}));
    };
    for (const near of ["pointerdown", "focus", "click"]) link.addEventListener(near, write);
    return link;
  }

  listen() {
    this.search.addEventListener("input", () => {
      this.found = 0;
      this.find(0);
    });
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.find(event.shiftKey ? -1 : 1);
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), {passive: false});
    this.canvas.addEventListener("dblclick", (event) => this.zoom(0.4, this.nsAt(event.offsetX)));
    this.listenToPointer();
  }

  listenToPointer() {
    let dragged = /** @type {{x: number, view: import("./view.mjs").View, map: boolean, moved: boolean} | null} */ (null);
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      dragged = {x: event.offsetX, view: this.view, map: event.offsetY < MINI_HEIGHT, moved: false};
      if (dragged.map) this.centre(event.offsetX);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!dragged) return this.hover(event);
      dragged.moved ||= Math.abs(event.offsetX - dragged.x) > 3;
      if (dragged.map) return this.centre(event.offsetX);
      const perPixel = (dragged.view.to - dragged.view.from) / this.plot();
      this.show(panView(dragged.view, (dragged.x - event.offsetX) * perPixel, this.scene.endNs));
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (dragged && !dragged.moved && !dragged.map) {
        const at = this.hitAt(event);
        this.select(at === null ? -1 : this.operatorOf(at), false);
      }
      dragged = null;
    });
    this.canvas.addEventListener("pointercancel", () => void (dragged = null));
    this.canvas.addEventListener("pointerleave", () => this.tip.setAttribute("hidden", ""));
  }

  plot() {
    return this.painter?.plot ?? 1;
  }

  /** @param {number} x */
  nsAt(x) {
    return this.view.from + ((x - (this.painter?.gutter ?? 0)) / this.plot()) * (this.view.to - this.view.from);
  }

  /** @param {number} x in the mini-map */
  centre(x) {
    const at = ((x - (this.painter?.gutter ?? 0)) / this.plot()) * this.scene.endNs, half = (this.view.to - this.view.from) / 2;
    this.show({from: at - half, to: at + half});
  }

  /** @param {PointerEvent} event */
  hitAt(event) {
    return this.painter && hit(this.scene, this.view, this.painter, event.offsetX, event.offsetY);
  }

  /** @param {{row: import("./draw.mjs").Row, at: number}} found */
  operatorOf(found) {
    const index = /** @type {import("./arms.mjs").Lane} */ (found.row.lane).ops[found.at];
    return found.row.kind === "prefetches" ? /** @type {any} */ (this.scene.scenario).plan.windows[index].ordinal : index;
  }

  /** @param {PointerEvent} event */
  hover(event) {
    const found = this.hitAt(event);
    if (!found) return void this.tip.setAttribute("hidden", "");
    this.tip.replaceChildren(...describeOperator(this.scene, this.operatorOf(found)).map((line) => make("div", {}, line)));
    this.tip.removeAttribute("hidden");
    const room = this.canvas.clientWidth - this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(event.offsetX + 14, room))}px`;
    this.tip.style.top = `${event.offsetY + 18}px`;
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.zoom(Math.exp(Math.max(-100, Math.min(100, event.deltaY)) / 200), this.nsAt(event.offsetX));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      this.pan((event.deltaX || event.deltaY) / this.plot());
    }
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.scene.ops.length - 1;
    const actions = /** @type {Record<string, () => void>} */ ({
      ArrowLeft: () => this.pan(-0.2), ArrowRight: () => this.pan(0.2), ArrowUp: () => this.zoom(0.7),
      ArrowDown: () => this.zoom(1 / 0.7), "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
      "0": () => this.show({from: 0, to: this.scene.endNs}), Home: () => this.show({from: 0, to: this.view.to - this.view.from}),
      End: () => this.show({from: this.scene.endNs - this.view.to + this.view.from, to: this.scene.endNs}),
      ".": () => this.select(Math.min(last, this.selected + 1)), ",": () => this.select(Math.max(0, this.selected - 1)),
      Escape: () => this.select(-1),
    });
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }
}
