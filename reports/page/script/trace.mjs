// SPDX-License-Identifier: Apache-2.0
// What the timeline shows, as JSON that Perfetto and chrome://tracing open: one process per arm, a
// flow from each window to the readers of what it fetches.
// @ts-check

/** @typedef {import("./arms.mjs").Arm} Arm */

/** @param {import("./arms.mjs").Operator[]} ops @param {Arm[]} arms @param {import("./arms.mjs").Scenario | null} scenario */
export function traceEvents(ops, arms, scenario) {
  const events = /** @type {object[]} */ ([]);
  const us = (/** @type {number} */ ns) => ns / 1000;
  arms.forEach((arm, a) => {
    const pid = a + 1;
    events.push({ph: "M", pid, name: "process_name", args: {name: `${arm.name} (${arm.source})`}});
    arm.lanes.forEach((lane, tid) => {
      events.push({ph: "M", pid, tid, name: "thread_name", args: {name: lane.name}});
      for (const i of lane.ops) {
        events.push({ph: "X", pid, tid, ts: us(arm.start[i]), dur: us(arm.dur[i]), name: ops[i].name,
                     cat: ops[i].kind, args: {ordinal: ops[i].ordinal, bytes: ops[i].weight_bytes + ops[i].kv_bytes}});
      }
    });
  });
  if (scenario === null || arms.length < 2) return {traceEvents: events, displayTimeUnit: "ns"};
  const arm = arms[1], tidOf = new Map(arm.lanes.flatMap((lane, tid) => [...lane.ops].map((i) => [i, tid])));
  let id = 0;
  for (const window of scenario.plan.windows) {
    for (const p of window.prefetches) {
      ++id;
      const name = `${p.tensor}: ${p.length_bytes} B`;
      if (p.next_step) continue;
      events.push({ph: "s", pid: 2, tid: tidOf.get(window.ordinal), id, name, cat: "prefetch", ts: us(arm.start[window.ordinal])});
      events.push({ph: "f", bp: "e", pid: 2, tid: tidOf.get(p.consumer_ordinal), id, name, cat: "prefetch",
                   ts: us(arm.start[p.consumer_ordinal])});
    }
  }
  scenario.plan.cache.occupancy_bytes.forEach((bytes, i) => {
    events.push({ph: "C", pid: 2, name: "prefetched and unread", ts: us(arm.start[i] + arm.dur[i]), args: {bytes}});
  });
  return {traceEvents: events, displayTimeUnit: "ns"};
}
