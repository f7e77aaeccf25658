// SPDX-License-Identifier: Apache-2.0
// The report's operators as lanes of two arms on one axis. An arm's operators begin where the
// recorded ones do, moved by what the operators before them on the busiest stream take less or more;
// of a long step those that the page does not hold are taken to be spread evenly.
// @ts-check

/** @typedef {{ordinal: number, name: string, kind: string, stream: number, start_ns: number, dur_ns: number,
 *   weight_bytes: number, kv_bytes: number}} Operator */
/** @typedef {{consumer_ordinal: number, consumer: string, tensor: string, next_step: boolean,
 *   length_bytes: number}} Prefetch */
/** @typedef {{ordinal: number, name: string, used_bytes: number, capacity_bytes: number, prefetches: Prefetch[]}}
 *   PlannedWindow */
/** @typedef {{label: string, link_latency_ns: number, plan: {windows: PlannedWindow[], budget_bytes: number,
 *   cache: {occupancy_bytes: number[]}}, measured: object | null,
 *   left_out?: {baseline_ns: number, prefetch_ns: number},
 *   operators: {predicted_ns: number|null, baseline_ns: number|null, prefetch_ns: number|null}[]}} Scenario */
/** @typedef {{name: string, ops: Int32Array, start: Float64Array, end: Float64Array}} Lane */
/** @typedef {{name: string, source: string, start: Float64Array, dur: Float64Array, endNs: number, lanes: Lane[],
 *   bytes: Float64Array, bytesLeftOut: number}} Arm */

/** Ordinals of windows and readers become places in the list of operators, of which the page of a long
 * step does not hold all: `report` is changed. Returns the place of each ordinal.
 * @param {{step: {operators: Operator[]}, scenarios: {plan: {windows: PlannedWindow[]}}[]}} report */
export function placeOrdinals(report) {
  const places = new Map(report.step.operators.map((op, place) => [op.ordinal, place]));
  for (const {plan} of report.scenarios) {
    for (const window of plan.windows) {
      window.ordinal = /** @type {number} */ (places.get(window.ordinal));
      for (const prefetch of window.prefetches) {
        prefetch.consumer_ordinal = /** @type {number} */ (places.get(prefetch.consumer_ordinal));
      }
    }
  }
  return places;
}

/** @param {Operator[]} ops */
function busiestStream(ops) {
  const busy = new Map();
  for (const op of ops) busy.set(op.stream, (busy.get(op.stream) ?? 0) + op.dur_ns);
  let best = 0;
  for (const [stream, dur] of busy) if (dur > (busy.get(best) ?? -1)) best = stream;
  return best;
}

/** @param {Operator[]} ops by start @param {Float64Array} dur @param {number} wallNs
 * @param {number} leftOutNs what all operators that are not in `ops` take longer than recorded */
export function layOut(ops, dur, wallNs, leftOutNs = 0) {
  const main = busiestStream(ops);
  const start = new Float64Array(ops.length);
  const busyUntil = new Map();
  let shift = 0, end = 0;
  ops.forEach((op, i) => {
    const stretched = wallNs > 0 ? leftOutNs * op.start_ns / wallNs : 0;
    start[i] = Math.max(op.start_ns + shift + stretched, busyUntil.get(op.stream) ?? 0, 0);
    busyUntil.set(op.stream, start[i] + dur[i]);
    end = Math.max(end, start[i] + dur[i]);
    if (op.stream === main) shift += dur[i] - op.dur_ns;
  });
  return {start, endNs: Math.max(end, wallNs + shift + leftOutNs)};
}

/** @param {string} name @param {number[]} members @param {Float64Array} start @param {Float64Array} dur
 * @returns {Lane} */
export function makeLane(name, members, start, dur) {
  const sorted = [...members].sort((a, b) => start[a] - start[b]);
  // Bars of several streams may overlap in one lane: each then ends where the next begins.
  const end = Float64Array.from(sorted, (i, at) =>
    Math.min(start[i] + dur[i], at + 1 < sorted.length ? Math.max(start[sorted[at + 1]], start[i]) : Infinity));
  return {name, ops: Int32Array.from(sorted), start: Float64Array.from(sorted, (i) => start[i]), end};
}

/** One lane per stream, then the communication of all streams.
 * @param {Operator[]} ops
 * @param {Float64Array} start @param {Float64Array} dur */
function lanesOf(ops, start, dur) {
  const streams = /** @type {Map<number, number[]>} */ (new Map());
  const talk = /** @type {number[]} */ ([]);
  ops.forEach((op, i) => {
    if (op.kind === "collective" || op.kind === "p2p") return void talk.push(i);
    const members = streams.get(op.stream);
    if (members) members.push(i);
    else streams.set(op.stream, [i]);
  });
  const lanes = [...streams.entries()].sort((a, b) => a[0] - b[0]).map(([stream, members]) =>
    makeLane(streams.size === 1 ? "operators" : `stream ${stream}`, members, start, dur));
  if (talk.length > 0) lanes.push(makeLane("collectives", talk, start, dur));
  return lanes;
}

/** @typedef {{wall_ns: number, operators: Operator[], left_out_bytes?: number}} Step */

/** @param {string} name @param {string} source @param {Step} step @param {Float64Array} dur @param {number} leftOutNs
 * @returns {Arm} */
function makeArm(name, source, step, dur, leftOutNs = 0) {
  const ops = step.operators;
  const {start, endNs} = layOut(ops, dur, step.wall_ns, leftOutNs);
  const bytes = Float64Array.from(ops, (op) => op.weight_bytes + op.kv_bytes);
  return {name, source, start, dur, endNs, lanes: lanesOf(ops, start, dur), bytes,
          bytesLeftOut: step.left_out_bytes ?? 0};
}

/** Baseline and prefetch arm of a scenario; the recording alone without one.
 * @param {Step} step @param {Scenario | null} scenario @returns {Arm[]} */
export function armsOf(step, scenario) {
  const ops = step.operators;
  const recorded = (/** @type {number} */ i) =>
    ops[i].dur_ns + (ops[i].kind === "collective" && scenario ? scenario.link_latency_ns : 0);
  if (scenario === null) {
    return [makeArm("recorded", "median of the recorded steps", step, Float64Array.from(ops, (op) => op.dur_ns))];
  }
  const rows = scenario.operators;
  const timed = rows.some((row) => row.prefetch_ns !== null) && rows.some((row) => row.baseline_ns !== null);
  const base = Float64Array.from(ops, (_, i) => (timed ? rows[i].baseline_ns : null) ?? recorded(i));
  const fetch = Float64Array.from(ops, (_, i) => (timed ? rows[i].prefetch_ns : rows[i].predicted_ns) ?? base[i]);
  const arms = [makeArm("baseline", timed ? "measured" : "recorded", step, base, scenario.left_out?.baseline_ns),
                makeArm("prefetch", timed ? "measured" : "predicted", step, fetch, scenario.left_out?.prefetch_ns)];
  for (const window of scenario.plan.windows) {
    for (const prefetch of window.prefetches) {
      const reader = prefetch.consumer_ordinal;
      arms[1].bytes[reader] = Math.max(0, arms[1].bytes[reader] - prefetch.length_bytes);
      arms[1].bytes[window.ordinal] += prefetch.length_bytes;
    }
  }
  return arms;
}

/** The time of each window that its prefetches take: their share of what fits.
 * @param {Arm} arm @param {PlannedWindow[]} windows @returns {Lane} with windows in place of operators */
export function prefetchLane(arm, windows) {
  const used = windows.map((_, i) => i).filter((i) => windows[i].used_bytes > 0);
  const start = Float64Array.from(windows, (w) => arm.start[w.ordinal]);
  const dur = Float64Array.from(windows, (w) =>
    arm.dur[w.ordinal] * (w.capacity_bytes > 0 ? Math.min(1, w.used_bytes / w.capacity_bytes) : 1));
  return makeLane("prefetches", used, start, dur);
}

/** Bytes per second read from memory in each pixel of the view, if each operator reads evenly, and
 * those that the page does not hold read evenly over the step.
 * @param {Arm} arm @param {{from: number, to: number}} view @param {number} pixels */
export function bandwidth(arm, view, pixels) {
  const rates = new Float64Array(pixels);
  const scale = pixels / (view.to - view.from);
  rates.fill(arm.bytesLeftOut / arm.endNs * 1e9, 0, Math.max(0, Math.ceil((arm.endNs - view.from) * scale)));
  for (let i = 0; i < arm.start.length; ++i) {
    const from = arm.start[i], to = from + arm.dur[i];
    if (arm.bytes[i] === 0 || to <= view.from || from >= view.to || to <= from) continue;
    const left = (from - view.from) * scale, right = (to - view.from) * scale;
    const perPixel = arm.bytes[i] / (right - left);
    for (let x = Math.max(0, Math.floor(left)); x < Math.min(pixels, right); ++x) {
      rates[x] += perPixel * (Math.min(x + 1, right) - Math.max(x, left)) * scale * 1e9;
    }
  }
  return rates;
}
