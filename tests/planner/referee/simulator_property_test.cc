// SPDX-License-Identifier: Apache-2.0
// What must hold for every step, device and plan that the referee accepts.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

#include "planner/referee/simulator.h"
#include "tests/planner/tiny_step.h"

namespace preserve {
namespace {

using test::TinyStep;

int64_t in_range(int64_t low, int64_t high) {
  return *rc::gen::inRange(low, high + 1);
}

struct Case {
  FoldedStep step;
  DeviceModel device;
  Plan plan;
};

// Operators with gaps, overlaps, no duration, several streams and shared tensors.
FoldedStep any_step() {
  TinyStep tiny;
  const int64_t streams = in_range(1, 3);
  for (int64_t stream = 2; stream <= streams; ++stream) tiny->streams.push_back(stream);
  for (int64_t t = in_range(1, 6); t > 0; --t) {
    tiny.tensor("tensor" + std::to_string(t), in_range(1, 400'000));
  }
  const auto tensors = static_cast<int64_t>(tiny->tensors.size());
  for (int64_t i = in_range(1, 24); i > 0; --i) {
    const bool collective = in_range(0, 3) == 0;
    const auto dur_ns = static_cast<double>(in_range(0, 3) == 0 ? 0 : in_range(1, 30'000));
    const double end_ns = tiny->wall_ns;
    const auto gap_ns = std::max(-end_ns, static_cast<double>(in_range(-3'000, 3'000)));
    const int32_t op =
        tiny.add(collective ? OpKind::collective : OpKind::compute, "op", dur_ns, gap_ns);
    StepOp& added = tiny->ops.back();
    // Starts ascend as in a folded step.
    if (op > 0)
      added.start_ns = std::max(added.start_ns, tiny->ops[static_cast<size_t>(op) - 1].start_ns);
    added.stream = static_cast<int32_t>(in_range(0, streams - 1));
    added.floor_ns = static_cast<double>(in_range(0, 3) == 0 ? in_range(0, 30'000) : 0);
    if (collective) continue;
    for (int64_t reads = in_range(0, 2); reads > 0; --reads) {
      tiny.read(op, static_cast<int32_t>(in_range(0, tensors - 1)));
    }
    if (in_range(0, 5) == 0) tiny.write(op, static_cast<int32_t>(in_range(0, tensors - 1)));
  }
  double end_ns = 0;
  for (const StepOp& op : tiny->ops) end_ns = std::max(end_ns, op.start_ns + op.dur_ns);
  tiny->wall_ns = end_ns + static_cast<double>(in_range(0, 2'000));
  return *tiny;
}

DeviceModel any_device() {
  DeviceModel device = test::tiny_device(in_range(1, 600'000));
  device.kind = in_range(0, 1) == 0 ? "gpu" : "cpu";
  device.methods[0].placement = in_range(0, 1) == 0 ? "spare" : "consumer";
  device.methods[0].start_latency_ns = in_range(0, 4'000);
  device.methods[0].bandwidth_bytes_per_s = 1e9 * static_cast<double>(in_range(1, 30));
  device.slowdown_per_byte_ns = 0.01 * static_cast<double>(in_range(0, 30));
  device.op_floor_ns = in_range(0, 5'000);
  if (in_range(0, 1) == 0) {
    const int64_t soft = in_range(1, 300'000);
    device.survival = {{soft, 1.0}, {soft + in_range(1, 300'000), 0.0}};
  }
  return device;
}

// Any window may fetch any part of anything that a later operator reads, also far too much.
Plan any_plan(const FoldedStep& step) {
  Plan plan;
  const auto count = static_cast<int32_t>(step.ops.size());
  for (int32_t window = 0; window < count; ++window) {
    if (in_range(0, 2) != 0) continue;
    for (int64_t i = in_range(1, 3); i > 0; --i) {
      const auto consumer = static_cast<int32_t>(in_range(0, count - 1));
      const StepOp& op = step.ops[static_cast<size_t>(consumer)];
      if (op.accesses.empty() || op.accesses[0].mode != AccessMode::read) continue;
      const int64_t size = step.tensors[static_cast<size_t>(op.accesses[0].tensor)].bytes;
      const int64_t offset = in_range(0, size - 1);
      test::prefetch(plan, step, window, consumer, in_range(1, size - offset), offset);
    }
  }
  return plan;
}

Case any_case() {
  Case c{any_step(), any_device(), {}};
  c.plan = any_plan(c.step);
  return c;
}

bool near(double a, double b) {
  return std::fabs(a - b) <= 1e-6 * std::max({1.0, a, b});
}

RC_GTEST_PROP(SimulatorProperty, EmptyPlanIsTheRecordedStep, ()) {
  const Case c = any_case();
  const SimulationResult result = simulate(c.step, c.device, Plan{});
  RC_ASSERT(near(result.baseline_step_ns, c.step.wall_ns));
  RC_ASSERT(near(result.step_ns, c.step.wall_ns));
  for (size_t i = 0; i < c.step.ops.size(); ++i) {
    RC_ASSERT(near(result.ops[i].start_ns, c.step.ops[i].start_ns));
    RC_ASSERT(near(result.ops[i].dur_ns, c.step.ops[i].dur_ns));
  }
}

RC_GTEST_PROP(SimulatorProperty, NothingBeatsTheHotStepAndNoTimeIsNegative, ()) {
  const Case c = any_case();
  const SimulationResult result = simulate(c.step, c.device, c.plan);
  RC_ASSERT(std::isfinite(result.step_ns));
  RC_ASSERT(result.all_hot_step_ns >= 0);
  RC_ASSERT(result.all_hot_step_ns <= result.baseline_step_ns * (1 + 1e-9));
  RC_ASSERT(result.step_ns >= result.all_hot_step_ns * (1 - 1e-9) - 1e-6);
  RC_ASSERT(result.collective_slowdown_ns >= -1e-6);
  for (const SimulatedOp& op : result.ops) {
    RC_ASSERT(op.start_ns >= 0);
    RC_ASSERT(op.dur_ns >= -1e-9);
    RC_ASSERT(op.start_ns + op.dur_ns <= result.step_ns * (1 + 1e-9) + 1e-6 || !result.steady);
  }
}

RC_GTEST_PROP(SimulatorProperty, EveryPrefetchedByteIsAccountedForOnce, ()) {
  const Case c = any_case();
  const SimulationResult result = simulate(c.step, c.device, c.plan);
  double planned = 0;
  size_t index = 0;
  for (const PlannedWindow& window : c.plan.windows) {
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      const SimulatedPrefetch& outcome = result.prefetches.at(index++);
      planned += static_cast<double>(prefetch.length_bytes);
      RC_ASSERT(outcome.arrived_bytes >= 0 && outcome.late_bytes >= 0);
      RC_ASSERT(near(outcome.arrived_bytes + outcome.late_bytes,
                     static_cast<double>(prefetch.length_bytes)));
      RC_ASSERT(near(outcome.hit_bytes + outcome.evicted_bytes, outcome.arrived_bytes));
    }
  }
  RC_ASSERT(index == result.prefetches.size());
  RC_ASSERT(near(result.arrived_bytes + result.late_bytes, planned));
}

RC_GTEST_PROP(SimulatorProperty, SameInputsGiveTheSameResult, ()) {
  const Case c = any_case();
  const SimulationResult a = simulate(c.step, c.device, c.plan);
  const SimulationResult b = simulate(c.step, c.device, c.plan);
  RC_ASSERT(a.step_ns == b.step_ns);
  for (size_t i = 0; i < a.ops.size(); ++i) RC_ASSERT(a.ops[i].start_ns == b.ops[i].start_ns);
}

RC_GTEST_PROP(SimulatorProperty, SlowingTheClockScalesAllTimes, ()) {
  const Case c = any_case();
  Case slow = c;  // half the speed of everything
  for (StepOp& op : slow.step.ops) {
    op.start_ns *= 2;
    op.dur_ns *= 2;
    op.floor_ns *= 2;
  }
  slow.step.wall_ns *= 2;
  slow.device.memory_bandwidth_bytes_per_s /= 2;
  slow.device.cache_read_bandwidth_bytes_per_s /= 2;
  slow.device.methods[0].bandwidth_bytes_per_s /= 2;
  slow.device.methods[0].start_latency_ns *= 2;
  slow.device.op_floor_ns *= 2;
  slow.device.slowdown_per_byte_ns *= 2;
  const double once = simulate(c.step, c.device, c.plan).step_ns;
  const double twice = simulate(slow.step, slow.device, slow.plan).step_ns;
  RC_ASSERT(near(2 * once, twice));
}

// Each window fetches for the first reader after it, so that no other traffic interferes.
RC_GTEST_PROP(SimulatorProperty, AFasterPrefetchIsNeverWorse, ()) {
  TinyStep tiny;
  std::vector<std::pair<int32_t, int32_t>> pairs;  // window, consumer
  for (int64_t layer = in_range(1, 6); layer > 0; --layer) {
    const int32_t window = tiny.collective(static_cast<double>(in_range(1, 20'000)));
    if (in_range(0, 1) == 0)
      tiny.add(OpKind::other, "norm", static_cast<double>(in_range(0, 3'000)));
    pairs.emplace_back(window, tiny.reader("gemm" + std::to_string(layer), in_range(100, 300'000),
                                           static_cast<double>(in_range(1, 40'000))));
  }
  tiny.reader("head", 4'000'000, 400'000);  // nothing survives to the next step
  Plan plan;
  for (const auto& [window, consumer] : pairs) {
    const StepOp& op = tiny->ops[static_cast<size_t>(consumer)];
    test::prefetch(plan, *tiny, window, consumer,
                   in_range(1, tiny->tensors[static_cast<size_t>(op.accesses[0].tensor)].bytes));
  }
  DeviceModel slow = test::tiny_device(1'000'000);
  slow.methods[0].bandwidth_bytes_per_s = 1e9 * static_cast<double>(in_range(1, 9));
  slow.methods[0].start_latency_ns = in_range(0, 5'000);
  DeviceModel fast = slow;
  fast.methods[0].bandwidth_bytes_per_s *= 1.1;
  fast.methods[0].start_latency_ns /= 2;
  const double slow_ns = simulate(*tiny, slow, plan).step_ns;
  const double fast_ns = simulate(*tiny, fast, plan).step_ns;
  RC_ASSERT(fast_ns <= slow_ns + 1);  // a byte's rounding
  RC_ASSERT(slow_ns <= tiny->wall_ns * (1 + 1e-9));
}

}  // namespace
}  // namespace preserve
