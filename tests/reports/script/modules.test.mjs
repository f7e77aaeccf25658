// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the page's modules. Run by node --test.
import assert from "node:assert/strict";
import test from "node:test";

import {armsOf, bandwidth, layOut, makeLane, placeOrdinals, prefetchLane} from "../../../reports/page/script/arms.mjs";
import {formatRate, formatSize, formatTick, formatTime, sortKey} from "../../../reports/page/script/format.mjs";
import {sortedOrder} from "../../../reports/page/script/tables.mjs";
import {describeOperator, findOperators, sceneOf} from "../../../reports/page/script/timeline.mjs";
import {traceEvents} from "../../../reports/page/script/trace.mjs";
import {clampView, firstEndingAfter, panView, ticksOf, visibleBars, zoomView} from "../../../reports/page/script/view.mjs";

const op = (ordinal, name, kind, start_ns, dur_ns, more = {}) =>
  ({ordinal, name, kind, stream: 0, start_ns, dur_ns, weight_bytes: 0, kv_bytes: 0, ...more});

// An allreduce that fetches half of what the operator after it reads.
function report() {
  const operators = [op(0, "qkv", "compute", 0, 100, {weight_bytes: 1000}), op(1, "allreduce", "collective", 100, 50),
                     op(2, "mlp", "compute", 150, 200, {weight_bytes: 4000})];
  const times = (recorded_ns, predicted_ns) => ({recorded_ns, predicted_ns, baseline_ns: null, prefetch_ns: null});
  return {
    step: {wall_ns: 350, operators},
    recording: {machines: [{memory_bandwidth_bytes_per_s: 30e9}]},
    scenarios: [{label: "real", link_latency_ns: 0, measured: null,
      operators: [times(100, 100), times(50, 50), times(200, 120)],
      plan: {budget_bytes: 4096, cache: {occupancy_bytes: [0, 2000, 0]},
             windows: [{ordinal: 1, name: "allreduce", used_bytes: 2000, capacity_bytes: 4000, prefetches: [
               {tensor: "w", consumer: "mlp", consumer_ordinal: 2, next_step: false, length_bytes: 2000}]}]}}],
  };
}

test("numbers read as the tables write them", () => {
  assert.equal(formatTime(12345), "12.35 us");
  assert.equal(formatTime(7), "7 ns");
  assert.equal(formatSize(4 * 2 ** 20), "4.00 MiB");
  assert.equal(formatRate(18.5e9), "18.50 GB/s");
  assert.equal(formatTick(200000, 900000), "200 us");
  assert.equal(formatTick(0, 5), "0");
});

test("cells sort by what they mean, not by their text", () => {
  for (const [text, value] of [["12.3 us", 12300], ["1.50 ms", 1.5e6], ["2 KiB", 2048], ["1,234", 1234], ["86.1 %", 86.1],
                               ["1.142x [1.1x, 1.2x]", 1.142], ["\u2212+", NaN], ["\u22123 ns", -3], ["+3 ns", 3]]) {
    assert.deepEqual(sortKey(text), value, text);
  }
  assert.ok(Number.isNaN(sortKey("unknown: no replay")));
  assert.deepEqual(sortedOrder(["9 us", "unknown", "1 ms", "3 ns"], true, false), [3, 0, 2, 1]);
  assert.deepEqual(sortedOrder(["9 us", "unknown", "1 ms", "3 ns"], true, true), [2, 0, 3, 1]);
  assert.deepEqual(sortedOrder(["layers.10", "layers.9"], false, false), [1, 0]);
});

test("zooming keeps what is under the pointer and stays in the step", () => {
  const near = zoomView({from: 0, to: 1000}, 0.5, 250, 1000);
  assert.deepEqual(near, {from: 125, to: 625});
  assert.deepEqual(zoomView(near, 100, 300, 1000), {from: 0, to: 1000});
  assert.deepEqual(panView(near, 1e9, 1000), {from: 500, to: 1000});
  assert.deepEqual(panView(near, -1e9, 1000), {from: 0, to: 500});
  assert.equal(clampView({from: 5, to: 5}, 1000).to - clampView({from: 5, to: 5}, 1000).from, 20);
});

test("ticks are round and cover the view", () => {
  assert.deepEqual(ticksOf({from: 0, to: 1000}, 5), [0, 200, 400, 600, 800, 1000]);
  assert.deepEqual(ticksOf({from: 330, to: 420}, 3), [350, 400]);
});

test("drawing is bounded by the width, and nothing that is wide is lost", () => {
  const count = 20000;
  const start = Float64Array.from({length: count}, (_, i) => i * 10);
  const end = start.map((ns, i) => ns + (i === 777 ? 10 : 5));
  let drawn = 0, hidden = 0, longest = false;
  visibleBars({start, end}, {from: 0, to: 10 * count}, 500, (i, x, width, more) => {
    ++drawn;
    hidden += more;
    longest ||= i === 777;
    assert.ok(x >= 0 && x + width <= 501);
  });
  assert.ok(drawn <= 501, `${drawn}`);
  assert.equal(drawn + hidden, count);
  assert.ok(longest, "the longest of its pixel");
  const seen = [];
  visibleBars({start, end}, {from: 7000, to: 7100}, 500, (i) => seen.push(i));
  assert.deepEqual(seen, [700, 701, 702, 703, 704, 705, 706, 707, 708, 709]);
  assert.equal(firstEndingAfter(end, 5), 1);
});

test("operators of an arm move by what those before them take less", () => {
  const ops = [op(0, "a", "compute", 0, 100), op(1, "b", "compute", 110, 50), op(2, "c", "compute", 170, 10, {stream: 1})];
  const {start, endNs} = layOut(ops, Float64Array.of(60, 50, 10), 200);
  assert.deepEqual([...start], [0, 70, 130]);
  assert.equal(endNs, 160);
});

test("bars of one lane do not overlap", () => {
  const lane = makeLane("x", [1, 0], Float64Array.of(0, 5), Float64Array.of(10, 10));
  assert.deepEqual([...lane.ops], [0, 1]);
  assert.deepEqual([...lane.end], [5, 15]);
});

test("the prefetch arm is predicted until it is measured", () => {
  const {step, scenarios} = report();
  const [baseline, prefetch] = armsOf(step, scenarios[0]);
  assert.equal(baseline.source, "recorded");
  assert.equal(prefetch.source, "predicted");
  assert.equal(prefetch.dur[2], 120);
  assert.equal(prefetch.endNs, 270);
  assert.deepEqual([...prefetch.bytes], [1000, 2000, 2000]);
  scenarios[0].operators.forEach((row, i) => Object.assign(row, {baseline_ns: 100 + i, prefetch_ns: 90 + i}));
  const measured = armsOf(step, scenarios[0]);
  assert.equal(measured[1].source, "measured");
  assert.equal(measured[0].dur[1], 101);
  assert.deepEqual(armsOf(step, null).map((arm) => arm.name), ["recorded"]);
});

test("a window's bar is as long as its share that is used", () => {
  const {step, scenarios} = report();
  const lane = prefetchLane(armsOf(step, scenarios[0])[1], scenarios[0].plan.windows);
  assert.deepEqual([lane.start[0], lane.end[0]], [100, 125]);
});

test("memory reads add up to the bytes", () => {
  const {step} = report();
  const [arm] = armsOf(step, null);
  const rates = bandwidth(arm, {from: 0, to: 350}, 70);  // 5 ns a pixel
  assert.ok(Math.abs(rates.reduce((a, b) => a + b, 0) * 5e-9 - 5000) < 1e-6);
  assert.equal(rates[0], 1000 / 100e-9);
});

test("operators that a long step's page leaves out move the others evenly, and read evenly", () => {
  const ops = [op(0, "qkv", "compute", 0, 10), op(9, "down", "compute", 200, 10)];
  const {start, endNs} = layOut(ops, Float64Array.of(10, 10), 400, -100);
  assert.deepEqual([...start, endNs], [0, 150, 300]);
  const {step, scenarios} = report();
  const [arm, prefetch] = armsOf({...step, left_out_bytes: 3500}, {...scenarios[0], left_out: {baseline_ns: 35, prefetch_ns: -10}});
  assert.deepEqual([arm.endNs, prefetch.endNs], [385, 270]);
  const rates = bandwidth(arm, {from: 0, to: 770}, 154);
  assert.ok(Math.abs(rates.reduce((a, b) => a + b, 0) * 5e-9 - 8500) < 1e-6);
  assert.equal(rates[153], 0);
});

test("search ignores case, and hostile names are only text", () => {
  const ops = [{name: "Layers.0.QKV"}, {name: "</script><script>"}, {name: "layers.1.qkv"}];
  assert.deepEqual(findOperators(ops, " qkv "), [0, 2]);
  assert.deepEqual(findOperators(ops, "</script>"), [1]);
  assert.deepEqual(findOperators(ops, ""), []);
});

test("an operator tells what is fetched for it", () => {
  const scene = sceneOf(report(), 0);
  assert.ok(describeOperator(scene, 2).includes("1.95 KiB fetched under 1. allreduce"));
  assert.ok(describeOperator(scene, 1).some((line) => line.startsWith("window: 1.95 KiB of 3.91 KiB")));
});

test("a page that does not hold all operators finds those of its windows", () => {
  const long = report();
  long.step.operators.forEach((operator, i) => void (operator.ordinal = [7, 40, 99][i]));
  const window = long.scenarios[0].plan.windows[0];
  window.ordinal = 40;
  window.prefetches[0].consumer_ordinal = 99;
  assert.equal(placeOrdinals(long).get(99), 2);
  const scene = sceneOf(long, 0);
  assert.ok(describeOperator(scene, 2).includes("1.95 KiB fetched under 40. allreduce"));
  assert.equal(describeOperator(scene, 2)[0], "99. mlp (compute)");
  const {traceEvents: events} = traceEvents(scene.ops, scene.arms, scene.scenario);
  const exported = events.filter((event) => event.ph === "X").map((event) => event.args.ordinal);
  assert.deepEqual(new Set(exported), new Set([7, 40, 99]));
});

test("the exported trace has both arms, flows and the occupancy", () => {
  const scene = sceneOf(report(), 0);
  const {traceEvents: events} = traceEvents(scene.ops, scene.arms, scene.scenario);
  const of = (ph) => events.filter((event) => event.ph === ph);
  assert.equal(of("X").length, 6);
  assert.equal(of("s").length, 1);
  assert.equal(of("f")[0].ts, 0.15);
  assert.equal(of("C").length, 3);
});
