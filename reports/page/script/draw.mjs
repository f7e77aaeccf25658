// SPDX-License-Identifier: Apache-2.0
// The timeline's picture: lanes of the arms on one time axis, tracks below, all of the step above.
// Every shape is bounded by the width of the canvas, however many operators the step has.
// @ts-check

import {bandwidth} from "./arms.mjs";
import {formatRate, formatSize, formatTick} from "./format.mjs";
import {firstEndingAfter, ticksOf, visibleBars} from "./view.mjs";

/** @typedef {import("./arms.mjs").Arm} Arm */
/** @typedef {import("./arms.mjs").Lane} Lane */
/** @typedef {import("./view.mjs").View} View */
/** @typedef {{y: number, height: number, kind: "title" | "lane" | "prefetches" | "occupancy" | "bandwidth",
 *   label: string, arm: number, lane: Lane | null}} Row */
/** @typedef {{ops: import("./arms.mjs").Operator[], scenario: import("./arms.mjs").Scenario | null, arms: Arm[],
 *   rows: Row[], endNs: number, height: number, peakBytesPerS: number | null}} Scene */

export const MINI_HEIGHT = 26;
const AXIS = 20, LANE = 24, BAR = 18, TRACK = 46, TITLE = 20;
const MOST_ARROWS = 250;

/** Rows from top to bottom.
 * @param {Arm[]} arms @param {Lane | null} prefetches @param {boolean} occupancy
 * @param {boolean} reads */
export function placeRows(arms, prefetches, occupancy, reads) {
  const rows = /** @type {Row[]} */ ([]);
  let y = MINI_HEIGHT + AXIS;
  /** @param {Row["kind"]} kind @param {string} label @param {number} arm @param {Lane | null} lane @param {number} height */
  const add = (kind, label, arm, lane, height) => {
    rows.push({y, height, kind, label, arm, lane});
    y += height;
  };
  arms.forEach((arm, a) => {
    add("title", `${arm.name} (${arm.source})`, a, null, TITLE);
    if (a === 1 && prefetches) add("prefetches", "prefetches", a, prefetches, LANE);
    for (const lane of arm.lanes) add("lane", lane.name, a, lane, LANE);
  });
  if (occupancy) add("occupancy", "prefetched, unread", arms.length - 1, null, TRACK);
  if (reads) add("bandwidth", "memory reads", arms.length - 1, null, TRACK);
  return {rows, height: y + 4};
}

/** @param {Element} element */
export function coloursOf(element) {
  const style = getComputedStyle(element);
  const value = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
  return {
    compute: value("compute"), copy: value("copy"), collective: value("collective"), p2p: value("p2p"),
    other: value("other"), prefetch: value("prefetch"), text: value("text"), soft: value("soft"), line: value("line"),
    panel: value("panel"), page: value("page"), bad: value("bad"), link: value("link"),
    onBar: value("on-bar"), onLightBar: value("on-light-bar"),
  };
}

/** @param {Row} row @param {Scene} scene @param {number} at index in the row's lane @returns {string} */
export function nameAt(row, scene, at) {
  const lane = /** @type {Lane} */ (row.lane);
  if (row.kind === "lane") return scene.ops[lane.ops[at]].name;
  return formatSize(/** @type {NonNullable<Scene["scenario"]>} */ (scene.scenario).plan.windows[lane.ops[at]].used_bytes);
}

export class Painter {
  /** @param {CanvasRenderingContext2D} context @param {number} width @param {number} gutter left of the plot
   * @param {ReturnType<typeof coloursOf>} colours */
  constructor(context, width, gutter, colours) {
    this.context = context;
    this.width = width;
    this.gutter = gutter;
    this.colours = colours;
    this.plot = Math.max(50, width - gutter);
  }

  /** @param {Scene} scene @param {View} view @param {Set<number>} marked operators @param {number} selected -1: none */
  paint(scene, view, marked, selected) {
    const c = this.context;
    c.clearRect(0, 0, this.width, scene.height);
    c.font = '11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';
    c.textBaseline = "middle";
    this.axis(scene, view);
    for (const row of scene.rows) this.row(row, scene, view, marked, selected);
    this.arrows(scene, view, selected);
    this.labels(scene);
    this.miniMap(scene, view);
  }

  /** @param {number} ns @param {View} view */
  x(ns, view) {
    return this.gutter + ((ns - view.from) / (view.to - view.from)) * this.plot;
  }

  /** @param {Scene} scene @param {View} view */
  axis(scene, view) {
    const c = this.context;
    c.textAlign = "center";
    for (const tick of ticksOf(view, Math.max(4, this.plot / 110))) {
      const x = Math.round(this.x(tick, view)) + 0.5;
      c.fillStyle = this.colours.line;
      c.fillRect(x, MINI_HEIGHT + AXIS - 4, 1, scene.height);
      c.fillStyle = this.colours.soft;
      if (x > this.gutter + 20 && x < this.width - 20) c.fillText(formatTick(tick, view.to), x, MINI_HEIGHT + 9);
    }
  }

  /** @param {Row} row @param {Scene} scene @param {View} view @param {Set<number>} marked @param {number} selected */
  row(row, scene, view, marked, selected) {
    if (row.kind === "lane" || row.kind === "prefetches") this.lane(row, scene, view, marked, selected);
    if (row.kind === "occupancy") this.occupancy(row, scene, view);
    if (row.kind === "bandwidth") this.bandwidth(row, scene, view);
  }

  /** @param {Row} row @param {Scene} scene @param {View} view @param {Set<number>} marked @param {number} selected */
  lane(row, scene, view, marked, selected) {
    const c = this.context, lane = /** @type {Lane} */ (row.lane);
    const top = row.y + (LANE - BAR) / 2;
    const outlined = /** @type {[number, number, boolean][]} */ ([]);
    c.textAlign = "left";
    visibleBars(lane, view, this.plot, (at, x, width, hidden) => {
      const op = lane.ops[at];
      const kind = row.kind === "prefetches" ? "prefetch" : scene.ops[op].kind;
      const colour = /** @type {Record<string, string>} */ (this.colours)[kind] ?? this.colours.other;
      c.fillStyle = colour;
      c.fillRect(this.gutter + x, top, Math.max(width - (width > 3 ? 0.5 : 0), 0.8), BAR);
      if (row.kind === "lane" && (op === selected || marked.has(op))) outlined.push([x, width, op === selected]);
      if (width < 44 || hidden > 0) return;
      c.fillStyle = kind === "compute" || kind === "prefetch" || kind === "other" ? this.colours.onBar : this.colours.onLightBar;
      const name = nameAt(row, scene, at), room = Math.floor((width - 6) / 6.7);
      c.fillText(name.length <= room ? name : "…" + name.slice(name.length - room + 1), this.gutter + x + 3, top + BAR / 2 + 1);
    });
    for (const [x, width, strong] of outlined) {
      c.strokeStyle = strong ? this.colours.text : this.colours.bad;
      c.lineWidth = 2;
      c.strokeRect(this.gutter + x - 1, top - 1, Math.max(width, 2) + 2, BAR + 2);
    }
  }

  /** From the windows to the readers of what they fetch; all of them when they are few.
   * @param {Scene} scene @param {View} view @param {number} selected */
  arrows(scene, view, selected) {
    const from = scene.rows.find((row) => row.kind === "prefetches");
    if (!from || !scene.scenario) return;
    const arm = scene.arms[from.arm], c = this.context;
    const near = /** @type {{begin: number, end: number, chosen: boolean}[]} */ ([]);
    for (const window of scene.scenario.plan.windows) {
      for (const prefetch of window.prefetches) {
        const begin = arm.start[window.ordinal];
        const end = prefetch.next_step ? scene.endNs : arm.start[prefetch.consumer_ordinal];
        if (end < view.from || begin > view.to) continue;
        near.push({begin, end, chosen: selected === window.ordinal || selected === prefetch.consumer_ordinal});
      }
    }
    const shown = near.length > MOST_ARROWS ? near.filter((arrow) => arrow.chosen) : near;
    const reader = scene.rows.find((row) => row.kind === "lane" && row.arm === from.arm);
    const y = from.y + LANE - 3;
    c.save();
    c.beginPath();
    c.rect(this.gutter, 0, this.plot, scene.height);
    c.clip();
    for (const {begin, end, chosen} of shown) {
      const toY = (reader?.y ?? y) + 3, x1 = this.x(begin, view) + 2, x2 = this.x(end, view);
      c.strokeStyle = chosen ? this.colours.text : this.colours.prefetch;
      c.lineWidth = chosen ? 2 : 1;
      c.beginPath();
      c.moveTo(x1, y);
      c.quadraticCurveTo((x1 + x2) / 2, y + 10, x2, toY);
      c.lineTo(x2 - 4, toY - 3);
      c.moveTo(x2, toY);
      c.lineTo(x2 - 5, toY + 2);
      c.stroke();
    }
    c.restore();
  }

  /** @param {Row} row @param {Scene} scene @param {View} view */
  occupancy(row, scene, view) {
    const scenario = /** @type {NonNullable<Scene["scenario"]>} */ (scene.scenario);
    const bytes = scenario.plan.cache.occupancy_bytes, arm = scene.arms[row.arm];
    const most = Math.max(scenario.plan.budget_bytes, 1, bytes.reduce((a, b) => Math.max(a, b), 0));
    const values = new Float64Array(Math.ceil(this.plot));
    const scale = this.plot / (view.to - view.from);
    let at = 0;
    // The fullest moment of each pixel, from the end of one operator to the end of the next.
    for (let i = 0; i < bytes.length; ++i) {
      const end = arm.start[i] + arm.dur[i];
      const next = i + 1 < bytes.length ? arm.start[i + 1] + arm.dur[i + 1] : arm.endNs;
      if (next < view.from || end > view.to) continue;
      at = Math.max(0, Math.floor((end - view.from) * scale));
      const last = Math.min(values.length - 1, Math.floor((next - view.from) * scale));
      for (let x = at; x <= last; ++x) values[x] = Math.max(values[x], bytes[i]);
    }
    if (bytes.length > 0) {  // what the step before left over, until the first operator ends
      const first = Math.min(values.length, Math.floor((arm.start[0] + arm.dur[0] - view.from) * scale));
      for (let x = 0; x < first; ++x) values[x] = Math.max(values[x], bytes[bytes.length - 1]);
    }
    this.area(row, values, most, this.colours.prefetch, 0.55);
    this.level(row, scenario.plan.budget_bytes / most, `budget ${formatSize(scenario.plan.budget_bytes)}`);
  }

  /** @param {Row} row @param {Scene} scene @param {View} view */
  bandwidth(row, scene, view) {
    const tracks = scene.arms.map((arm) => bandwidth(arm, view, Math.ceil(this.plot)));
    let most = scene.peakBytesPerS ?? 1;
    for (const track of tracks) most = track.reduce((a, b) => Math.max(a, b), most);
    this.area(row, tracks[0], most, this.colours.other, 0.6);
    if (tracks.length > 1) this.outline(row, tracks[1], most);
    if (scene.peakBytesPerS) this.level(row, scene.peakBytesPerS / most, `memory ${formatRate(scene.peakBytesPerS)}`);
    else this.level(row, 1, formatRate(most));
  }

  /** @param {Row} row @param {Float64Array} values @param {number} most @param {string} colour @param {number} alpha */
  area(row, values, most, colour, alpha) {
    const c = this.context, bottom = row.y + row.height - 4, height = row.height - 10;
    c.fillStyle = colour;
    c.globalAlpha = alpha;
    c.beginPath();
    c.moveTo(this.gutter, bottom);
    values.forEach((value, x) => c.lineTo(this.gutter + x, bottom - (value / most) * height));
    c.lineTo(this.gutter + values.length, bottom);
    c.fill();
    c.globalAlpha = 1;
  }

  /** @param {Row} row @param {Float64Array} values @param {number} most */
  outline(row, values, most) {
    const c = this.context, bottom = row.y + row.height - 4, height = row.height - 10;
    c.strokeStyle = this.colours.prefetch;
    c.lineWidth = 1.5;
    c.beginPath();
    values.forEach((value, x) => c.lineTo(this.gutter + x, bottom - (value / most) * height));
    c.stroke();
  }

  /** @param {Row} row @param {number} share @param {string} label */
  level(row, share, label) {
    const c = this.context, y = row.y + row.height - 4 - share * (row.height - 10);
    c.strokeStyle = this.colours.bad;
    c.lineWidth = 1;
    c.setLineDash([6, 4]);
    c.beginPath();
    c.moveTo(this.gutter, y);
    c.lineTo(this.width, y);
    c.stroke();
    c.setLineDash([]);
    c.textAlign = "right";
    c.fillStyle = this.colours.page;  // what lies behind would make it hard to read
    c.globalAlpha = 0.8;
    c.fillRect(this.width - 8 - c.measureText(label).width, y + 1, this.width, 13);
    c.globalAlpha = 1;
    c.fillStyle = this.colours.text;
    c.fillText(label, this.width - 4, y + 7);
  }

  /** @param {Scene} scene */
  labels(scene) {
    const c = this.context, room = Math.floor((this.gutter - 10) / 6.7);
    c.fillStyle = this.colours.page;
    c.fillRect(0, MINI_HEIGHT + AXIS, this.gutter - 1, scene.height);
    for (const row of scene.rows) {
      const title = row.kind === "title";
      c.textAlign = title ? "left" : "right";
      c.fillStyle = title ? this.colours.text : this.colours.soft;
      const x = title ? 0 : this.gutter - 8, y = row.y + (title ? 12 : Math.min(row.height, LANE) / 2 + 1);
      const lines = title || row.label.length <= room ? [row.label] : row.label.split(" ").map((word) => word.slice(0, room));
      lines.slice(0, row.height > LANE ? 2 : 1).forEach((line, at) => c.fillText(line, x, y + 13 * at));
    }
  }

  /** @param {Scene} scene @param {View} view */
  miniMap(scene, view) {
    const c = this.context, whole = {from: 0, to: scene.endNs};
    c.fillStyle = this.colours.panel;
    c.fillRect(this.gutter, 0, this.plot, MINI_HEIGHT - 4);
    for (const row of scene.rows) {
      if (row.kind !== "lane" && row.kind !== "prefetches") continue;
      if (row.kind === "lane" && row.arm !== scene.arms.length - 1) continue;
      const top = row.kind === "prefetches" ? 13 : 3;
      visibleBars(/** @type {Lane} */ (row.lane), whole, this.plot, (at, x, width) => {
        const op = /** @type {Lane} */ (row.lane).ops[at];
        const kind = row.kind === "prefetches" ? "prefetch" : scene.ops[op].kind;
        c.fillStyle = /** @type {Record<string, string>} */ (this.colours)[kind] ?? this.colours.other;
        c.fillRect(this.gutter + x, top, Math.max(1, width), 8);
      });
    }
    const from = this.x(view.from, whole), to = this.x(view.to, whole);
    c.fillStyle = this.colours.page;
    c.globalAlpha = 0.65;
    c.fillRect(this.gutter, 0, from - this.gutter, MINI_HEIGHT - 4);
    c.fillRect(to, 0, this.gutter + this.plot - to, MINI_HEIGHT - 4);
    c.globalAlpha = 1;
    c.strokeStyle = this.colours.link;
    c.lineWidth = 2;
    c.strokeRect(from + 1, 1, Math.max(2, to - from - 2), MINI_HEIGHT - 6);
  }
}

/** What lies at a point, null when nothing does.
 * @param {Scene} scene @param {View} view @param {Painter} painter
 * @param {number} x @param {number} y @returns {{row: Row, at: number} | null} */
export function hit(scene, view, painter, x, y) {
  const row = scene.rows.find((r) => y >= r.y && y < r.y + r.height);
  if (!row?.lane || x < painter.gutter) return null;
  const perPixel = (view.to - view.from) / painter.plot;
  const ns = view.from + (x - painter.gutter) * perPixel;
  let at = firstEndingAfter(row.lane.end, ns);
  // A bar too thin to point at is hit from two pixels away.
  if (at > 0 && ns - row.lane.end[at - 1] < 2 * perPixel && !(row.lane.start[at] <= ns)) at -= 1;
  return at < row.lane.ops.length && row.lane.start[at] <= ns + 2 * perPixel ? {row, at} : null;
}
