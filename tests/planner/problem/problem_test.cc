// SPDX-License-Identifier: Apache-2.0
// From a step to the integer problem: every formula of docs/planning.md on a case worked out by
// hand, and every bad input refused.
#include "planner/problem/problem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "planner/problem/recorded_memory.h"
#include "tests/planner/tiny_step.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

using test::core_device;
using test::fails_with;
using test::kSavedPerByteNs;
using test::ordinals_of;
using test::tiny_device;
using test::TinyStep;
using testing::HasSubstr;

constexpr int64_t kKiB = 1024;
constexpr int64_t kMiB = 1024 * kKiB;

// reader(64 KiB, 10 us), allreduce(5 us), reader(64 KiB, 10 us)
FoldedStep two_readers() {
  TinyStep step;
  step.reader("a", 64 * kKiB, 10'000);
  step.collective(5'000);
  step.reader("b", 64 * kKiB, 10'000);
  return *step;
}

TEST(Problem, WindowsAreTheTimeAfterStartAndJitter) {
  FoldedStep step = two_readers();
  step.ops[1].mad_ns = 400;
  const PlanProblem problem = build_problem(step, core_device(100 * kKiB), {});
  ASSERT_EQ(problem.windows.size(), 1u);
  EXPECT_EQ(problem.windows[0].ordinal, 1);
  EXPECT_EQ(problem.windows[0].usable_ns, 5'000 - 100 - 400);
  EXPECT_EQ(problem.windows[0].capacity_bytes, 45'000 / 4096 * 4096);  // at 10 bytes/ns
}

TEST(Problem, ACoreFetchesOnlyWhileItWaits) {
  FoldedStep step = two_readers();
  step.ops[1].work_ns = 3'000;
  const auto usable_ns = [&](const DeviceModel& device, int64_t link_latency_ns) {
    return build_problem(step, device, {.link_latency_ns = link_latency_ns})
        .windows.at(0)
        .usable_ns;
  };
  DeviceModel device = core_device(100 * kKiB);
  EXPECT_EQ(usable_ns(device, 0), 5'000 - 3'000 - 100);
  EXPECT_EQ(usable_ns(device, 2'000), 5'000 + 2'000 - 3'000 - 100);
  device.methods[0].placement = "spare";
  EXPECT_EQ(usable_ns(device, 0), 5'000 - 100) << "another core fetches meanwhile";
  device = core_device(100 * kKiB);
  device.kind = "gpu";
  EXPECT_EQ(usable_ns(device, 0), 5'000 - 100);
}

TEST(Problem, ALinkLengthensWindowsAndTheBaseline) {
  const FoldedStep step = two_readers();
  const PlanProblem problem =
      build_problem(step, tiny_device(100 * kKiB), {.link_latency_ns = 2'000});
  EXPECT_EQ(problem.windows[0].usable_ns, 5'000 + 2'000 - 100);
  EXPECT_DOUBLE_EQ(problem.baseline_step_ns, step.wall_ns + 2'000);
}

TEST(Problem, WorkBesideACollectiveShortensItsWindow) {
  FoldedStep step = two_readers();
  // Two more operators, overlapping each other, cover 3 of the collective's 5 us on another stream.
  for (const double start : {11'000.0, 12'000.0}) {
    StepOp& op = *step.ops.emplace(step.ops.end() - 1);
    op.name = "concurrent";
    op.kind = OpKind::compute;
    op.stream = 1;
    op.start_ns = start;
    op.dur_ns = 2'000;
  }
  step.streams = {1, 2};
  for (size_t i = 0; i < step.ops.size(); ++i) step.ops[i].ordinal = static_cast<int32_t>(i);
  const PlanProblem problem = build_problem(step, tiny_device(100 * kKiB), {});
  EXPECT_EQ(problem.windows[0].usable_ns, 5'000 - 3'000 - 100);
}

TEST(Problem, ProfitIsTheDifferenceOfTheRates) {
  const PlanProblem problem = build_problem(two_readers(), tiny_device(100 * kKiB), {});
  ASSERT_EQ(problem.flow.demands.size(), 2u);
  EXPECT_EQ(problem.flow.demands[1].capacity, 16);
  EXPECT_NEAR(price_to_ns(problem.flow.demands[1].profit), kSavedPerByteNs * 4096, 1e-4);
}

TEST(Problem, NoOperatorGetsShorterThanItsFloor) {
  FoldedStep step = two_readers();
  step.ops[2].floor_ns = 8'000;  // 2 us to save: 26666 bytes' worth, 6 blocks and a part of one
  const PlanProblem problem = build_problem(step, tiny_device(100 * kKiB), {});
  const PlanConsumer& consumer = problem.consumers[1];
  ASSERT_EQ(consumer.demands, 2);
  const FlowDemand& head = problem.flow.demands[static_cast<size_t>(consumer.first_demand)];
  const FlowDemand& rest = problem.flow.demands[static_cast<size_t>(consumer.first_demand) + 1];
  EXPECT_EQ(head.capacity, 6);
  EXPECT_EQ(rest.capacity, 1);
  EXPECT_LT(rest.profit, head.profit);
  EXPECT_NEAR(price_to_ns(6 * head.profit + rest.profit), 2'000, 0.01);
}

TEST(Problem, BytesBeyondWhatTheTimeAllowsAreClampedAndCounted) {
  FoldedStep step = two_readers();
  step.ops[2].dur_ns = 500;  // 40 bytes/ns at most: 20000 of the 65536 bytes
  const PlanProblem problem = build_problem(step, tiny_device(100 * kKiB), {});
  EXPECT_EQ(problem.notes.clamped_operators, 1);
  int64_t blocks = 0;
  for (const FlowDemand& demand : problem.flow.demands) {
    if (demand.node == problem.flow.demands.back().node) blocks += demand.capacity;
  }
  EXPECT_LE(blocks, 20'000 / 4096);
}

TEST(Problem, TheCacheHoldsWhatTrafficLeaves) {
  // A window's bytes are held over b only together with b's own 64 KiB and the collective's 4 KiB
  // message.
  TinyStep steps;
  steps.reader("a", 64 * kKiB, 10'000);
  steps.collective(50'000);
  steps.reader("b", 64 * kKiB, 10'000);
  steps.reader("c", 64 * kKiB, 10'000);
  const PlanProblem problem = build_problem(*steps, core_device(100 * kKiB), {});
  EXPECT_EQ(problem.room_bytes,
            (std::vector<int64_t>{-96 * kKiB, 96 * kKiB, 32 * kKiB, -32 * kKiB}));
  // Edges after the nodes of a, the window, b and c.
  EXPECT_EQ(problem.flow.hold, (std::vector<int64_t>{0, 24, 8, 0}));
}

TEST(Problem, OnlyWhatSurvivesIsRoom) {
  DeviceModel device = tiny_device(100 * kKiB);
  device.cache_bytes = 400 * kKiB;
  const ProblemOptions all{.budget_bytes = 300 * kKiB};
  const auto problem = [&](const ProblemOptions& options) {
    return build_problem(two_readers(), device, options);
  };
  EXPECT_EQ(problem({}).held_bytes, 100 * kKiB);
  EXPECT_EQ(problem(all).budget_bytes, 100 * kKiB);  // without a curve nothing survives beyond
  device.survival = {{100 * kKiB, 1}, {200 * kKiB, 0}, {300 * kKiB, 0}};
  // What waits counts as a tenth older: of 100 KiB held only nine tenths survive.
  EXPECT_EQ(problem({}).held_bytes, static_cast<int64_t>(100 * kKiB / 1.1));
  EXPECT_EQ(problem({}).room_bytes[1], problem({}).held_bytes - 4 * kKiB);
  EXPECT_EQ(problem(all).budget_bytes, 200 * kKiB);
  device.survival.back().hit_fraction = device.survival[1].hit_fraction = 0.9;
  EXPECT_EQ(problem(all).budget_bytes, 300 * kKiB);
  EXPECT_EQ(problem(all).held_bytes, 300 * kKiB);
  EXPECT_EQ(problem({}).held_bytes, 100 * kKiB);
  device.kind = "cpu";  // fetching ends with the window: nothing comes early
  EXPECT_EQ(problem(all).held_bytes, 300 * kKiB);
}

TEST(Problem, WhatIsStillCachedIsNoCandidate) {
  // The whole step streams less than the cache: everything survives to the next step.
  const PlanProblem problem = build_problem(two_readers(), tiny_device(kMiB), {});
  EXPECT_TRUE(problem.consumers.empty());
  EXPECT_EQ(problem.notes.still_cached_bytes, 128 * kKiB);
}

TEST(Problem, ATensorReadAgainSoonIsFetchedOnce) {
  TinyStep steps;
  const int32_t first = steps.reader("a", 64 * kKiB, 10'000);
  steps.collective(50'000);
  const int32_t again = steps.add(OpKind::compute, "again", 10'000);
  steps.reader("big", 256 * kKiB, 40'000);
  FoldedStep step = *steps;
  step.ops[static_cast<size_t>(again)].accesses = step.ops[static_cast<size_t>(first)].accesses;
  const PlanProblem problem = build_problem(step, tiny_device(200 * kKiB), {});
  ASSERT_EQ(problem.consumers.size(), 2u);  // `a` after the big one, and the big one; not `again`
  EXPECT_EQ(problem.consumers[0].ordinal, first);
  EXPECT_NE(problem.consumers[1].ordinal, again);
}

TEST(Problem, OnlyReadOnlyWeightsAndOldKvTravel) {
  TinyStep steps;
  const int32_t reader = steps.reader("kv", 64 * kKiB, 10'000);
  steps.collective(5'000);
  const int32_t writer = steps.add(OpKind::compute, "append", 1'000);
  steps.reader("w", 64 * kKiB, 10'000);
  FoldedStep step = *steps;
  const int32_t kv = step.ops[static_cast<size_t>(reader)].accesses[0].tensor;
  step.tensors[static_cast<size_t>(kv)].role = TensorRole::kv;
  // The newest token: 4 KiB in the middle.
  step.ops[static_cast<size_t>(writer)].accesses.push_back(
      {kv, 32 * kKiB, 4 * kKiB, AccessMode::write, 1, "test"});
  PlanProblem problem = build_problem(step, tiny_device(100 * kKiB), {});
  ASSERT_EQ(problem.consumers.size(), 2u);
  ASSERT_EQ(problem.consumers[0].slices.size(), 2u);
  EXPECT_EQ(problem.consumers[0].slices[0].blocks, 8);
  EXPECT_EQ(problem.consumers[0].slices[1].offset_bytes, 36 * kKiB);
  EXPECT_EQ(problem.consumers[0].slices[1].blocks, 7);

  step.tensors[static_cast<size_t>(kv)].role = TensorRole::weight;  // a weight that changes: never
  problem = build_problem(step, tiny_device(100 * kKiB), {});
  EXPECT_EQ(problem.consumers.size(), 1u);
  EXPECT_EQ(problem.notes.written_bytes, 64 * kKiB);

  step.tensors[static_cast<size_t>(kv)].role = TensorRole::unknown;
  problem = build_problem(step, tiny_device(100 * kKiB), {});
  EXPECT_EQ(problem.consumers.size(), 1u);
  EXPECT_EQ(problem.notes.unnamed_bytes, 64 * kKiB);
}

// reader(200 KiB, 30 us), allreduce(5 us), reader(100 KiB, 15 us)
TinyStep busy_around_a_collective() {
  TinyStep steps;
  steps.reader("w", 200 * kKiB, 30'000);
  steps.collective(5'000);
  steps.reader("v", 100 * kKiB, 15'000);
  return steps;
}

// Whose stream leaves 2 of 10 bytes/ns.
DeviceModel device_with_slow_stream() {
  DeviceModel device = tiny_device(150 * kKiB);
  device.methods[0].bandwidth_bytes_per_s = 8e9;
  return device;
}

TEST(Problem, IdleWindowsNeedKnownLowTraffic) {
  TinyStep steps = busy_around_a_collective();
  steps.reader("norm", 4 * kKiB, 5'000);         // 0.8 of 10 bytes/ns: idle
  steps.add(OpKind::compute, "unknown", 5'000);  // no bytes recorded: unknown
  const FoldedStep step = *steps;
  const ProblemOptions options{.windows = WindowsMode::idle};
  DeviceModel device = device_with_slow_stream();
  const PlanProblem problem = build_problem(step, device, options);
  ASSERT_EQ(problem.windows.size(), 2u);
  EXPECT_EQ(problem.windows[1].ordinal, 3);
  EXPECT_EQ(problem.windows[1].capacity_bytes, 4'900 * 8 / 4096 * 4096);
  EXPECT_EQ(problem.notes.operators_without_bytes, 1);
  device.kind = "cpu";  // whose cores are told to stop when the collective has ended
  EXPECT_EQ(build_problem(step, device, options).windows.size(), 1u);
  // The idle operator's own read leaves before its window opens: two nodes for one operator.
  EXPECT_EQ(problem.flow.hold.size(), 6u);
}

TEST(Problem, OperatorsThatAreSlowedCostAndLastLonger) {
  TinyStep steps = busy_around_a_collective();
  const int32_t norm = steps.reader("norm", 4 * kKiB, 5'000);
  const int32_t next = steps.reader("norm2", 4 * kKiB, 5'000);
  steps.reader("u", 500 * kKiB, 51'200);  // at the memory's rate
  DeviceModel device = device_with_slow_stream();
  OperatorSlowdowns& slowdowns = device.methods[0].operator_slowdown_per_byte_ns;
  slowdowns[OperatorClass::small] = 0.025;  // a fifth of the time: a quarter more arrives
  slowdowns[OperatorClass::product] = 0.01;
  device.cache_read_bandwidth_bytes_per_s = 1e15;  // a byte that hits saves 0.1 ns
  const PlanProblem problem = build_problem(*steps, device, {.windows = WindowsMode::idle});
  ASSERT_EQ(problem.windows.size(), 2u);
  EXPECT_EQ(problem.windows[1].ordinal, norm);
  const Window& window = problem.windows[1];
  ASSERT_EQ(window.supplies.size(), 2u);  // beside "u" a byte costs 0.1 + 0.01 ns
  const auto supply = [&](size_t i) {
    return problem.flow.supplies[static_cast<size_t>(window.supplies[i])];
  };
  EXPECT_EQ(supply(0).capacity, static_cast<int64_t>(4'900 * 8 * 1.25) / 4096);
  EXPECT_EQ(supply(1).capacity, static_cast<int64_t>(5'000 * 8 * 1.25) / 4096);
  EXPECT_EQ(problem.supply_op[static_cast<size_t>(window.supplies[1])], next);
  for (const size_t i : {size_t{0}, size_t{1}}) {
    EXPECT_NEAR(price_to_ns(supply(i).cost), 0.025 * 4096, 1e-3);
  }
}

TEST(Problem, WindowsAreIdleWhereEverySlowdownBesideIsKnown) {
  TinyStep steps = busy_around_a_collective();
  const int32_t first = steps.reader("norm", 4 * kKiB, 5'000);
  steps.reader("u", 100 * kKiB, 10'240);  // a product, at the memory's rate
  const int32_t second = steps.reader("norm2", 4 * kKiB, 5'000);
  steps.add(OpKind::compute, "unknown", 5'000);  // where the stream ends
  DeviceModel device = device_with_slow_stream();
  const auto windows = [&](WindowsMode mode) {
    return ordinals_of(build_problem(*steps, device, {.windows = mode}).windows);
  };
  using Ordinals = std::vector<int32_t>;
  const ProblemOptions automatic;
  EXPECT_EQ(windows(WindowsMode::automatic), Ordinals({1}));
  EXPECT_EQ(settled_windows(device, automatic), WindowsMode::collective);
  OperatorSlowdowns& slowdowns = device.methods[0].operator_slowdown_per_byte_ns;
  slowdowns[OperatorClass::attention] = 0;
  EXPECT_EQ(windows(WindowsMode::automatic), Ordinals({1}));
  slowdowns[OperatorClass::small] = 0.001;
  EXPECT_EQ(windows(WindowsMode::automatic), Ordinals({1, second}));
  slowdowns[OperatorClass::product] = 0.001;
  EXPECT_EQ(windows(WindowsMode::automatic), Ordinals({1, first, second}));
  EXPECT_EQ(windows(WindowsMode::idle), Ordinals({1, first, second}));
  EXPECT_EQ(windows(WindowsMode::collective), Ordinals({1}));
  EXPECT_EQ(settled_windows(device, automatic), WindowsMode::automatic);
  steps->ops[static_cast<size_t>(second)].kind = OpKind::copy;  // has no class
  EXPECT_EQ(windows(WindowsMode::automatic), Ordinals({1}));    // the first one's stream gets there
  device.kind = "cpu";
  EXPECT_EQ(windows(WindowsMode::automatic), Ordinals({1}));
  EXPECT_EQ(settled_windows(device, automatic), WindowsMode::collective);
}

TEST(Problem, TheStreamGoesOnBehindTheWindowWhereMemoryIsIdle) {
  TinyStep steps;
  steps.reader("w", 200 * kKiB, 20'480);  // at the memory's rate
  steps.collective(5'000);
  steps.reader("norm", 4 * kKiB, 5'000);
  steps.reader("norm2", 4 * kKiB, 5'000);
  steps.reader("v", 400 * kKiB, 40'960);   // at the memory's rate: during it a byte costs 0.1 ns
  steps.reader("norm3", 4 * kKiB, 5'000);  // quiet again, but only v leads there
  DeviceModel device = device_with_slow_stream();
  device.slowdown_per_byte_ns = 0.01;
  PlanProblem problem = build_problem(*steps, device, {});
  ASSERT_EQ(problem.windows.size(), 1u);
  EXPECT_EQ(problem.supply_op, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(problem.windows[0].usable_ns, 4'900);
  // 8 bytes/ns of a collective that is slowed down by 8 %, then of two quiet operators.
  const int64_t own = static_cast<int64_t>(4'900 * 8 / (1 - 0.08)) / 4096, after = 80'000 / 4096;
  EXPECT_EQ(problem.windows[0].capacity_bytes, (own + after) * 4096);
  // The first part comes first: its cost is spread over all.
  for (const FlowSupply& supply : problem.flow.supplies) {
    EXPECT_NEAR(price_to_ns(supply.cost), 0.01 * 4096 * 10 / 29, 1e-3);
  }
}

TEST(Problem, TheTimeUntilTheNextOperatorStartsIsTheStreams) {
  TinyStep steps;
  steps.reader("w", 200 * kKiB, 20'480);
  steps.collective(50);  // over before the prefetch has begun, 50 ns later
  steps.reader("v", 400 * kKiB, 40'960, 5'050);
  DeviceModel device = tiny_device(150 * kKiB);
  PlanProblem problem = build_problem(*steps, device, {});
  EXPECT_EQ(problem.windows[0].usable_ns, 0);
  EXPECT_EQ(problem.windows[0].capacity_bytes, 50'000 / 4096 * 4096);  // at 10 bytes/ns
  for (const FlowSupply& supply : problem.flow.supplies) EXPECT_EQ(supply.cost, 0);
  device.kind = "cpu";
  EXPECT_EQ(build_problem(*steps, device, {}).windows[0].capacity_bytes, 0);
}

TEST(Problem, NothingArrivesBehindTheEndOfTheStep) {
  TinyStep steps;
  steps.reader("norm", 4 * kKiB, 5'000);  // quiet, but of the next step
  steps.reader("w", 200 * kKiB, 20'480);
  steps.collective(5'000);
  steps->wall_ns += 3'000;  // until the next step begins
  const PlanProblem problem = build_problem(*steps, tiny_device(150 * kKiB), {});
  ASSERT_EQ(problem.windows.size(), 1u);
  EXPECT_EQ(problem.supply_op, (std::vector<int32_t>{2, 2}));  // during the collective, after it
  EXPECT_EQ(problem.windows[0].capacity_bytes, (49'000 / 4096 + 30'000 / 4096) * 4096);
}

TEST(Problem, RefusesTracesThatCannotBePlanned) {
  const auto with = [](const std::function<void(FoldedStep&)>& spoil) {
    FoldedStep step = two_readers();
    spoil(step);
    return [step] { build_problem(step, tiny_device(100 * kKiB), {}); };
  };
  EXPECT_THAT(with([](FoldedStep& s) { s.ops[1].kind = OpKind::other; }),
              fails_with("no collective"));
  EXPECT_THAT(with([](FoldedStep& s) {
                for (StepTensor& tensor : s.tensors) tensor.role = TensorRole::activation;
              }),
              fails_with("NVTX memory regions"));
  for (const double dur_ns : {-1.0, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THAT(with([&](FoldedStep& s) { s.ops[0].dur_ns = dur_ns; }),
                fails_with("operator 0 (a)"))
        << dur_ns;
  }
  EXPECT_THAT(with([](FoldedStep& s) { std::swap(s.ops[0], s.ops[2]); }),
              fails_with("out of order"));
  EXPECT_THAT(with([](FoldedStep& s) { s.ops[0].accesses[0].tensor = 99; }),
              fails_with("impossible access"));
  EXPECT_THAT(with([](FoldedStep& s) {
                s.ops[0].accesses[0].bytes = std::numeric_limits<int64_t>::max();
                s.ops[0].accesses.push_back(s.ops[0].accesses[0]);
              }),
              fails_with("bytes of an operator"));
}

TEST(Problem, CountsWhatIsOddButUsable) {
  FoldedStep step = two_readers();
  step.ops[2].dur_ns = 0;
  step.ops[2].start_ns = step.ops[1].start_ns + 1'000;
  step.ops[0].accesses[0].bytes *= 2;  // beyond the end of the tensor
  const PlanProblem problem = build_problem(step, tiny_device(100 * kKiB), {});
  EXPECT_EQ(problem.notes.zero_duration_operators, 1);
  EXPECT_EQ(problem.notes.overlapping_operators, 1);
  EXPECT_EQ(problem.notes.clipped_accesses, 1);
  EXPECT_EQ(problem.consumers.size(), 1u);
}

TEST(Problem, RefusesImpossibleBudgets) {
  const auto with_budget = [](int64_t bytes) {
    return
        [bytes] { build_problem(two_readers(), tiny_device(100 * kKiB), {.budget_bytes = bytes}); };
  };
  EXPECT_THAT(with_budget(0), fails_with("budget of zero"));
  EXPECT_THAT(with_budget(101 * kKiB), fails_with("more than the cache"));
  EXPECT_THAT(with_budget(100), fails_with("smallest slice"));
  EXPECT_NO_THROW(with_budget(50 * kKiB)());
}

// By bytes half of what is read comes at 8 or less, half at 8 GB/s or more.
TEST(RecordedMemory, IsTheRateOfTheOperatorsWhereColdReadsWereAsSlow) {
  TinyStep step;
  step.collective(10'000);
  step.reader("norm", 1'000, 1'000);  // starts for longer than it reads
  step.reader("slow", kMiB, kMiB / 6.0);
  step.reader("gemm", 2 * kMiB, 2 * kMiB / 8.0);
  step.reader("fast", kMiB, kMiB / 9.0);
  DeviceModel device = tiny_device(100'000);
  std::vector<std::string> said;
  const auto rate = [&](double low) {
    device.memory_bandwidth_low_bytes_per_s = low;
    return with_recorded_memory(device, *step, said).memory_bandwidth_bytes_per_s;
  };
  EXPECT_DOUBLE_EQ(rate(0), 10e9);      // not measured
  EXPECT_DOUBLE_EQ(rate(8.1e9), 10e9);  // memory was seldom so slow: the operators are
  EXPECT_THAT(said, testing::IsEmpty());
  EXPECT_DOUBLE_EQ(rate(7e9), 8e9);
  EXPECT_THAT(said, testing::ElementsAre(HasSubstr("memory at 8.0 GB/s")));
  device.memory_bandwidth_bytes_per_s = 8.5e9;
  said.clear();
  EXPECT_DOUBLE_EQ(rate(7e9), 8e9);
  device.memory_bandwidth_bytes_per_s = 7.5e9;
  EXPECT_DOUBLE_EQ(rate(7e9), 7.5e9);
  EXPECT_THAT(said, testing::IsEmpty());  // less than a tenth less

  device.memory_bandwidth_bytes_per_s = 10e9;
  for (StepOp& op : (*step).ops) op.floor_ns = 0.6 * op.dur_ns;
  EXPECT_DOUBLE_EQ(rate(7e9), 10e9);  // it is arithmetic
  for (StepOp& op : (*step).ops) op.floor_ns = 0;
  (*step).phase = StepPhase::prefill;
  EXPECT_DOUBLE_EQ(rate(7e9), 10e9);
}

}  // namespace
}  // namespace preserve
