// SPDX-License-Identifier: Apache-2.0
// The part of the step that is seen, as arithmetic without a picture: a view is {from, to} in ns.
// @ts-check

/** @typedef {{from: number, to: number}} View */

const NARROWEST_NS = 20;

/** @param {View} view @param {number} endNs @returns {View} */
export function clampView(view, endNs) {
  const whole = Math.max(endNs, NARROWEST_NS);
  const width = Math.min(Math.max(view.to - view.from, NARROWEST_NS), whole);
  const from = Math.min(Math.max(view.from, 0), whole - width);
  return {from, to: from + width};
}

/** `factor` below 1 shows less; what is at `atNs` stays where it is.
 * @param {View} view @param {number} factor @param {number} atNs @param {number} endNs */
export function zoomView(view, factor, atNs, endNs) {
  const width = Math.min(Math.max((view.to - view.from) * factor, NARROWEST_NS), Math.max(endNs, NARROWEST_NS));
  const share = (atNs - view.from) / (view.to - view.from);
  return clampView({from: atNs - share * width, to: atNs + (1 - share) * width}, endNs);
}

/** @param {View} view @param {number} byNs @param {number} endNs */
export function panView(view, byNs, endNs) {
  return clampView({from: view.from + byNs, to: view.to + byNs}, endNs);
}

/** Round times, about `count` of them.
 * @param {View} view @param {number} count */
export function ticksOf(view, count) {
  const rough = (view.to - view.from) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = (/** @type {number[]} */ ([1, 2, 5]).find((f) => f * power >= rough) ?? 10) * power;
  const ticks = [];
  for (let i = Math.ceil(view.from / step); i * step <= view.to; ++i) ticks.push(i * step);
  return ticks;
}

/** First index whose end lies after `atNs`.
 * @param {Float64Array} endNs ascending @param {number} atNs */
export function firstEndingAfter(endNs, atNs) {
  let low = 0, high = endNs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (endNs[middle] > atNs) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * What of a lane is drawn: bars at least a pixel wide as they are; of all that begin within one
 * pixel the longest, so that the work is bounded by the width of the screen.
 * @param {{start: Float64Array, end: Float64Array}} lane ascending, not overlapping
 * @param {View} view @param {number} pixels
 * @param {(index: number, x: number, width: number, hidden: number) => void} draw
 */
export function visibleBars(lane, view, pixels, draw) {
  const scale = pixels / (view.to - view.from);
  let column = -1, longest = -1, hidden = 0;
  const flush = () => {
    if (longest >= 0) draw(longest, column, 1, hidden - 1);
    longest = -1;
    hidden = 0;
  };
  for (let i = firstEndingAfter(lane.end, view.from); i < lane.end.length && lane.start[i] < view.to; ++i) {
    const left = Math.max(0, (lane.start[i] - view.from) * scale);
    const right = Math.min(pixels, (lane.end[i] - view.from) * scale);
    if (right - left >= 1) {
      flush();
      draw(i, left, right - left, 0);
      column = -1;
      continue;
    }
    const at = Math.floor(left);
    if (at !== column) flush();
    column = at;
    ++hidden;
    if (longest < 0 || lane.end[i] - lane.start[i] > lane.end[longest] - lane.start[longest]) longest = i;
  }
  flush();
}
