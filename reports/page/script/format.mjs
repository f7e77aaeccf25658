// SPDX-License-Identifier: Apache-2.0
// Numbers as the tables of the page write them (common/units.h), and back for sorting.
// @ts-check

const TIMES = /** @type {[string, number][]} */ ([["s", 1e9], ["ms", 1e6], ["us", 1e3], ["ns", 1]]);
const SIZES = /** @type {[string, number][]} */ ([
  ["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10], ["B", 1]]);
const RATES = /** @type {[string, number][]} */ ([["TB/s", 1e12], ["GB/s", 1e9], ["MB/s", 1e6]]);
const UNITS = new Map([...TIMES, ...SIZES, ...RATES]);

/** @param {number} value @param {[string, number][]} units */
function inUnits(value, units) {
  const [unit, size] = units.find(([, one]) => Math.abs(value) >= one) ?? units[units.length - 1];
  return `${(value / size).toFixed(size === 1 ? 0 : 2)} ${unit}`;
}

/** "12.35 us"
 * @param {number} durNs */
export function formatTime(durNs) {
  return inUnits(durNs, TIMES);
}

/** "4.00 MiB"
 * @param {number} bytes */
export function formatSize(bytes) {
  return inUnits(bytes, SIZES);
}

/** "18.50 GB/s"
 * @param {number} bytesPerS */
export function formatRate(bytesPerS) {
  return inUnits(bytesPerS, RATES);
}

/** Times of one axis in one unit: "0", "200 us".
 * @param {number} ns @param {number} largestNs */
export function formatTick(ns, largestNs) {
  const [unit, size] = TIMES.find(([, one]) => largestNs >= one) ?? TIMES[TIMES.length - 1];
  return ns === 0 ? "0" : `${Number((ns / size).toPrecision(9))} ${unit}`;
}

/** The number that a cell shows; NaN when it shows none.
 * @param {string} text */
export function sortKey(text) {
  const match = /^\s*([+\-\u2212]?)\s*([0-9][0-9,]*(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*([A-Za-z/]*)/.exec(text);
  if (match === null) return NaN;
  const value = Number(match[2].replaceAll(",", "")) * (UNITS.get(match[3]) ?? 1);
  return match[1] === "-" || match[1] === "\u2212" ? -value : value;
}
