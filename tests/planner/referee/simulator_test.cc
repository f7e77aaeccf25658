// SPDX-License-Identifier: Apache-2.0
#include "planner/referee/simulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "common/error.h"
#include "tests/planner/referee/simulated.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::kSavedPerByteNs;
using test::Simulated;
using test::tiny_device;
using test::TinyStep;
using test::WithBetween;
using testing::HasSubstr;

auto refused(const char* text) {
  return test::fails_with(ErrorKind::input, HasSubstr(text));
}

// allreduce 10 us, then a reader of 200 kB that needs 20 us at memory speed plus 1 us.
struct OneWindow : Simulated {
  OneWindow() : Simulated(150'000) {}
  int32_t window = collective(10'000);
  int32_t consumer = reader("gemm", 200'000, 21'000);
};

TEST(Simulator, EmptyPlanIsTheRecordedStep) {
  OneWindow c;
  const SimulationResult result = c.run();
  EXPECT_DOUBLE_EQ(result.baseline_step_ns, 31'000);
  EXPECT_DOUBLE_EQ(result.step_ns, 31'000);
  EXPECT_DOUBLE_EQ(result.all_hot_step_ns, 31'000 - 200'000 * kSavedPerByteNs);
  EXPECT_DOUBLE_EQ(result.ops[1].start_ns, 10'000);
  EXPECT_DOUBLE_EQ(result.ops[1].hit_bytes, 0);
  EXPECT_TRUE(result.prefetches.empty());
  EXPECT_TRUE(result.steady);
}

TEST(Simulator, BytesThatArriveInTimeSaveTheDifferenceOfBandwidths) {
  OneWindow c;
  c.prefetch(c.window, c.consumer, 90'000);  // there after 100 + 9000 ns
  const SimulationResult result = c.run();
  EXPECT_NEAR(result.step_ns, 31'000 - 90'000 * kSavedPerByteNs, 1e-6);
  ASSERT_EQ(result.prefetches.size(), 1u);
  EXPECT_NEAR(result.prefetches[0].arrived_bytes, 90'000, 1e-6);
  EXPECT_NEAR(result.prefetches[0].hit_bytes, 90'000, 1e-6);
  EXPECT_NEAR(result.prefetches[0].saved_ns, 90'000 * kSavedPerByteNs, 1e-6);
  EXPECT_DOUBLE_EQ(result.late_bytes, 0);
  EXPECT_DOUBLE_EQ(result.baseline_step_ns, 31'000);
}

TEST(Simulator, ACoreFetchesOnlyWhileItWaits) {
  OneWindow c;
  c.device.kind = "cpu";
  c.device.methods[0].placement = "consumer";
  c->ops[0].work_ns = 4'000;
  c.prefetch(c.window, c.consumer, 90'000);  // 59'000 are there after 5'900 ns
  EXPECT_NEAR(c.run().prefetches.at(0).arrived_bytes, 59'000, 1);
  c.device.methods[0].placement = "spare";
  EXPECT_NEAR(c.run().prefetches.at(0).arrived_bytes, 90'000, 1);
}

TEST(Simulator, LateBytesGainNothingAndAreFetchedOnce) {
  OneWindow c;
  c.prefetch(c.window, c.consumer, 150'000);  // 99'000 are there when it starts
  const SimulationResult result = c.run();
  EXPECT_NEAR(result.prefetches[0].arrived_bytes, 99'000, 1);
  EXPECT_NEAR(result.prefetches[0].late_bytes, 51'000, 1);
  EXPECT_NEAR(result.step_ns, 31'000 - 99'000 * kSavedPerByteNs, 0.1);
}

TEST(Simulator, PrefetchStillUnderWayCompetesWithTheOperatorInBetween) {
  WithBetween c(250'000);
  c.reader("after", 100'000, 10'000);
  c.prefetch(c.window, c.consumer, 140'000);
  // 41'000 bytes are left at 10 us; shared evenly they need 8.2 us, in which "between" gets as
  // many. Its other 59'000 bytes then take 5.9 us.
  const SimulationResult result = c.run();
  EXPECT_NEAR(result.ops[1].dur_ns, 14'100, 1e-3);
  EXPECT_NEAR(result.ops[2].dur_ns, 20'000 - 140'000 * kSavedPerByteNs, 1e-3);
  EXPECT_NEAR(result.step_ns, 10'000 + 14'100 + 9'500 + 10'000, 1e-3);
}

TEST(Simulator, AnOperatorThatLeavesBandwidthFreeIsNotSlowed) {
  Simulated c(150'000);
  const int32_t window = c.collective(1'000);
  c.reader("between", 40'000, 10'000);  // 4 of 10 bytes/ns
  const int32_t consumer = c.reader("gemm", 200'000, 20'000);
  c.device.methods[0].bandwidth_bytes_per_s = 6e9;
  c.prefetch(window, consumer, 60'000);
  const SimulationResult result = c.run();
  EXPECT_NEAR(result.ops[1].dur_ns, 10'000, 1e-3);
  EXPECT_NEAR(result.ops[2].dur_ns, 20'000 - 60'000 * kSavedPerByteNs, 1e-3);
}

TEST(Simulator, TrafficLengthensTheCollective) {
  OneWindow c;
  c.device.slowdown_per_byte_ns = 0.02;
  c.prefetch(c.window, c.consumer, 90'000);
  const SimulationResult result = c.run();
  EXPECT_NEAR(result.ops[0].dur_ns, 10'000 + 90'000 * 0.02, 1e-3);
  EXPECT_NEAR(result.collective_slowdown_ns, 1'800, 1e-3);
  EXPECT_NEAR(result.step_ns, 31'000 + 1'800 - 90'000 * kSavedPerByteNs, 1e-3);
}

TEST(Simulator, TrafficThatCostsMoreThanItTakesStillEnds) {
  OneWindow c;
  c.device.slowdown_per_byte_ns = 0.5;  // 5 ns of collective per ns of prefetching
  c.prefetch(c.window, c.consumer, 90'000);
  EXPECT_NEAR(c.run().ops[0].dur_ns, 10'000 + 90'000 * 0.5, 1e-3);
}

TEST(Simulator, TrafficInBetweenEvicts) {
  WithBetween c(150'000);
  c.prefetch(c.window, c.consumer, 90'000);
  const SimulationResult result = c.run();
  EXPECT_DOUBLE_EQ(result.step_ns, 40'000) << "190'000 bytes since, 150'000 are kept";
  EXPECT_NEAR(result.evicted_bytes, 90'000, 1);
  EXPECT_DOUBLE_EQ(result.prefetches[0].saved_ns, 0);
}

// In a cache that forgets what was used longest ago, what was fetched first and is read meanwhile
// is used after what waits: that is older by both.
TEST(Simulator, ReadingWhatWasFetchedFirstAgesWhatWaits) {
  for (const int64_t others : {0, 10'000}) {
    Simulated c(150'000);
    const int32_t window = c.collective(20'000);
    const int32_t first = c.reader("first", 60'000, 6'000);
    c.reader("others", others, 1'000);
    const int32_t second = c.reader("second", 200'000, 20'000);
    c.prefetch(window, first, 60'000);
    c.prefetch(window, second, 90'000);
    const SimulationResult result = c.run();
    EXPECT_NEAR(result.prefetches[0].hit_bytes, 60'000, 1);
    EXPECT_NEAR(result.prefetches[1].evicted_bytes, others == 0 ? 0 : 90'000, 1);
  }
}

TEST(Simulator, WhatWasFetchedLaterAndReadFirstAgesNothingTwice) {
  Simulated c(151'000);
  const int32_t early = c.collective(20'000), late = c.collective(20'000);
  const int32_t first = c.reader("first", 60'000, 21'000);
  const int32_t second = c.reader("second", 90'000, 21'000);
  c.prefetch(early, second, 90'000);
  c.prefetch(late, first, 60'000);
  EXPECT_NEAR(c.run().ops[3].hit_bytes, 90'000, 1);
}

TEST(Simulator, ACacheThatKeepsAShareForEverIsWarmInTheRecordedStepToo) {
  Simulated c(150'000);
  c.collective(20'000);
  c.reader("small", 100'000, 10'000);
  c.reader("large", 400'000, 40'000);
  c.device.survival = {{100'000, 1}, {150'000, 0.5}, {200'000, 0.2}};
  EXPECT_NEAR(c.run().step_ns, 70'000, 1e-6);
}

TEST(Simulator, TheSurvivalCurveDecidesHowMuchIsLeft) {
  WithBetween c(150'000);
  c.device.survival = {{100'000, 1.0}, {250'000, 0.0}};
  c.prefetch(c.window, c.consumer, 90'000);
  const SimulationResult result = c.run();
  // 190'000 bytes later; where a stream of its own fetches, it may have been a tenth more.
  const double share = (250'000.0 - 1.1 * 190'000.0) / 150'000.0;
  EXPECT_NEAR(result.prefetches[0].hit_bytes, 90'000 * share, 1);
  EXPECT_NEAR(result.step_ns, 40'000 - 90'000 * share * kSavedPerByteNs, 1);
  c.device.kind = "cpu";
  EXPECT_NEAR(c.run().prefetches[0].hit_bytes, 90'000 * (250'000.0 - 190'000.0) / 150'000.0, 1);
}

TEST(Simulator, BytesThatSurviveFromTheLastStepAreNoGain) {
  OneWindow c;
  c.device = tiny_device(1'000'000);  // everything stays
  c.prefetch(c.window, c.consumer, 90'000);
  const SimulationResult result = c.run();
  EXPECT_DOUBLE_EQ(result.step_ns, 31'000);
  EXPECT_NEAR(result.redundant_bytes, 90'000, 1);
  EXPECT_NEAR(result.ops[1].baseline_hit_bytes, 200'000, 1);
  EXPECT_DOUBLE_EQ(result.all_hot_step_ns, 31'000);
}

TEST(Simulator, TheLastWindowPrefetchesForTheNextStep) {
  Simulated c(150'000);
  const int32_t consumer = c.reader("gemm", 200'000, 21'000);
  const int32_t window = c.collective(10'000);
  c.prefetch(window, consumer, 90'000);
  EXPECT_TRUE(c.plan.windows[0].prefetches[0].next_step);
  EXPECT_NEAR(c.run().step_ns, 31'000 - 90'000 * kSavedPerByteNs, 1e-6);
}

TEST(Simulator, WindowsShareOneStreamInOrder) {
  Simulated c(390'000);
  const int32_t first = c.collective(10'000);
  const int32_t second = c.collective(10'000);
  const int32_t consumer = c.reader("gemm", 400'000, 40'000);
  c.prefetch(first, consumer, 150'000);
  c.prefetch(second, consumer, 60'000, 150'000);
  // The stream is busy from 100 ns to the consumer at 20'000 ns: 199'000 bytes, of which 49'000 are
  // the second window's.
  const SimulationResult result = c.run();
  EXPECT_NEAR(result.prefetches[0].arrived_bytes, 150'000, 1);
  EXPECT_NEAR(result.prefetches[1].arrived_bytes, 49'000, 1);
}

TEST(Simulator, AKernelGoesOnBehindItsWindowAndACoreDoesNot) {
  Simulated c(180'000);
  const int32_t window = c.collective(10'000);
  c.reader("norm", 10, 5'000);
  const int32_t consumer = c.reader("gemm", 200'000, 20'000);
  c.prefetch(window, consumer, 150'000);
  EXPECT_NEAR(c.run().arrived_bytes, 149'000, 20);
  c.device.kind = "cpu";
  EXPECT_NEAR(c.run().arrived_bytes, 99'000, 1);
}

// 99'000 of its 200'000 bytes are there when the first reader starts; the rest both fetch together.
TEST(Simulator, AStreamGetsToTheNextPrefetchWhenTheRestIsMovedOrTheConsumerIsDone) {
  Simulated c(150'000);
  const int32_t window = c.collective(10'000);
  const int32_t first = c.reader("gate", 200'000, 20'000);
  const int32_t second = c.reader("down", 100'000, 10'000, 1'000);
  c.prefetch(window, first, 200'000);
  c.prefetch(window, second, 100'000);
  SimulationResult result = c.run();
  EXPECT_NEAR(result.prefetches[0].arrived_bytes, 99'000, 1);
  // After 10'100 ns they share the memory in what would have been the last 2'475 ns of "gate".
  EXPECT_NEAR(result.ops[1].dur_ns, 20'000 - 99'000 * kSavedPerByteNs + 2'475, 1);
  EXPECT_NEAR(result.prefetches[1].arrived_bytes, 10 * (2'475 + 1'000), 1);
  c.device.methods[0].bandwidth_bytes_per_s /= 2;  // the rest would take 30 us
  result = c.run();
  EXPECT_NEAR(result.prefetches[0].arrived_bytes, 49'500, 1);
  EXPECT_NEAR(result.prefetches[1].arrived_bytes, 5 * 1'000, 1);
}

TEST(Simulator, TheNextStepWaitsForWhatTheLastOneFetches) {
  Simulated c(150'000);
  const int32_t consumer = c.reader("gate", 200'000, 20'000);
  const int32_t window = c.collective(1'000);
  c.prefetch(window, consumer, 50'000);
  const double saved_ns = 50'000 * kSavedPerByteNs;
  EXPECT_NEAR(c.run().step_ns, 20'000 - saved_ns + 100 + 5'000, 1);
  c.device.kind = "cpu";
  EXPECT_NEAR(c.run().step_ns, 21'000 - 9'000 * kSavedPerByteNs, 1);
}

TEST(Simulator, NoOperatorGetsShorterThanItsFloor) {
  OneWindow c;
  c.prefetch(c.window, c.consumer, 90'000);
  c->ops[1].floor_ns = 19'000;  // its arithmetic
  EXPECT_NEAR(c.run().step_ns, 29'000, 1e-6);
  c->ops[1].floor_ns = 0;
  c.device.op_floor_ns = 20'000;
  EXPECT_NEAR(c.run().step_ns, 30'000, 1e-6);
}

TEST(Simulator, AnOperatorFasterThanTheDeviceIsScaled) {
  Simulated c(150'000);
  const int32_t window = c.collective(10'000);
  const int32_t consumer = c.reader("gemm", 200'000, 10'000);  // twice the memory bandwidth
  c.prefetch(window, consumer, 90'000);
  const SimulationResult result = c.run();
  EXPECT_NEAR(result.step_ns, 20'000 - 90'000 * kSavedPerByteNs / 2, 1e-6);
  EXPECT_NEAR(result.all_hot_step_ns, 12'500, 1e-6);
}

TEST(Simulator, LinkLatencyLengthensEveryCollective) {
  OneWindow c;
  c.prefetch(c.window, c.consumer, 150'000);
  const SimulationResult result = c.run({.method = {}, .placement = {}, .link_latency_ns = 5'000});
  EXPECT_DOUBLE_EQ(result.baseline_step_ns, 36'000);
  EXPECT_NEAR(result.prefetches[0].arrived_bytes, 149'000, 1);
}

// Overlap on one stream (a kernel launched before the end of its predecessor) and on two streams.
TEST(Simulator, RecordedOverlapsAreKept) {
  Simulated c(150'000);
  const int32_t window = c.collective(10'000);
  const int32_t consumer = c.reader("gemm", 200'000, 20'000);
  c.reader("early", 100'000, 10'000, -2'000);  // begins at 90 % of gemm
  c->streams.push_back(2);
  c.add(OpKind::other, "concurrent", 1'000, -5'000);
  c->ops.back().stream = 1;
  c->wall_ns = 38'000;
  EXPECT_NEAR(c.run().step_ns, 38'000, 1e-6);
  c.prefetch(window, consumer, 90'000);
  const SimulationResult result = c.run();
  const double gemm_ns = 20'000 - 90'000 * kSavedPerByteNs;
  EXPECT_NEAR(result.ops[2].start_ns, 10'000 + 0.9 * gemm_ns, 1e-3);
  EXPECT_NEAR(result.step_ns, 10'000 + 0.9 * gemm_ns + 10'000, 1e-3);
  EXPECT_NEAR(result.ops[3].start_ns, 10'000 + gemm_ns + 3'000, 1e-3) << "3 us after gemm's end";
}

TEST(Simulator, OperatorsWithoutDurationDoNotWaitForEachOther) {
  Simulated c(1);
  for (int i = 0; i < 5; ++i) c.add(OpKind::other, "mark", 0);
  c.collective(100);
  for (int i = 0; i < 5; ++i) c.add(OpKind::other, "mark", 0);
  EXPECT_DOUBLE_EQ(c.run().step_ns, 100);
  Simulated nothing(1);
  nothing.add(OpKind::other, "mark", 0);
  EXPECT_DOUBLE_EQ(nothing.run().step_ns, 0);
}

TEST(Simulator, BaselineIsWithinOnePercentOfRecordedSteps) {
  const test::TemporaryDirectory directory;
  for (const int layers : {1, 3, 12}) {
    for (const int64_t gap_ns : {0, 200, 5'000}) {
      test::SyntheticTrace spec;
      spec.layers = layers;
      spec.gap_ns = gap_ns;
      test::write_synthetic_trace(directory / "trace.db", spec);
      const FoldedStep step = fold_step(TraceDb::open(directory / "trace.db"));
      const SimulationResult result = simulate(step, tiny_device(4 << 20), Plan{});
      EXPECT_NEAR(result.baseline_step_ns, step.wall_ns, 0.01 * step.wall_ns);
      EXPECT_NEAR(result.step_ns, step.wall_ns, 0.01 * step.wall_ns);
    }
  }
}

TEST(Simulator, ImpossibleStepsAreRefused) {
  const DeviceModel device = tiny_device(1000);
  EXPECT_THAT([&] { simulate(FoldedStep{}, device, Plan{}); }, refused("has no operators"));
  const auto spoilt = [&](const std::function<void(FoldedStep&)>& spoil) {
    TinyStep step;
    step.collective(10);
    step.reader("gemm", 100, 10);
    spoil(*step);
    return [step = *step, device] { simulate(step, device, Plan{}); };
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(spoilt([&](FoldedStep& s) { s.ops[1].dur_ns = nan; }), refused("(gemm) starts"));
  EXPECT_THAT(spoilt([&](FoldedStep& s) { s.ops[1].dur_ns = -1; }), refused("lasts -1"));
  EXPECT_THAT(spoilt([&](FoldedStep& s) { s.ops[0].start_ns = 1e300; }), refused("1e+300"));
  EXPECT_THAT(spoilt([&](FoldedStep& s) { s.wall_ns = nan; }), refused("the step lasts"));
  EXPECT_THAT(spoilt([&](FoldedStep& s) { s.ops[1].stream = 7; }), refused("stream 7"));
  EXPECT_THAT(spoilt([&](FoldedStep& s) { s.ops[1].accesses[0].tensor = 9; }),
              refused("uses tensor 9"));
  EXPECT_THAT(spoilt([&](FoldedStep& s) { s.ops[1].accesses[0].bytes = -5; }), refused("-5 bytes"));
  EXPECT_THAT(spoilt([&](FoldedStep& s) {
                s.ops[1].accesses[0].bytes = s.ops[1].accesses[0].offset_bytes = INT64_MAX;
              }),
              refused("overflows"));
}

TEST(Simulator, HugeSizesAreOnlyHuge) {
  Simulated c(1000);
  const int32_t window = c.collective(10);
  const int32_t consumer = c.reader("gemm", INT64_MAX, 10);
  c.reader("other", INT64_MAX, 10);
  c.prefetch(window, consumer, INT64_MAX);
  c.device.methods[0].start_latency_ns = 5;
  const SimulationResult result = c.run();
  EXPECT_TRUE(std::isfinite(result.step_ns));
  EXPECT_LE(result.step_ns, result.baseline_step_ns * (1 + 1e-9));
}

TEST(Simulator, ForeignPlansAreRefused) {
  const auto spoilt = [](const std::function<void(Plan&, DeviceModel&)>& spoil,
                         const SimulationOptions& options = {}) {
    OneWindow c;
    c.prefetch(c.window, c.consumer, 1000);
    spoil(c.plan, c.device);
    return [c, options] { c.run(options); };
  };
  const auto with = [&](const std::function<void(PlannedPrefetch&)>& spoil) {
    return spoilt([&](Plan& plan, DeviceModel&) { spoil(plan.windows[0].prefetches[0]); });
  };
  EXPECT_THAT(with([](auto& p) { p.tensor = "absent.weight"; }), refused("absent.weight"));
  EXPECT_THAT(with([](auto& p) { p.consumer_ordinal = 99; }), refused("the step has 2"));
  EXPECT_THAT(with([](auto& p) { p.consumer = "other"; }), refused("in the step it is gemm"));
  EXPECT_THAT(with([](auto& p) { p.length_bytes = 0; }), refused("0 bytes"));
  EXPECT_THAT(with([](auto& p) { p.length_bytes = 200'001; }), refused("which has 200000"));
  EXPECT_THAT(with([](auto& p) { p.offset_bytes = INT64_MAX; }), refused("which has 200000"));
  EXPECT_THAT(with([](auto& p) { p.next_step = true; }), refused("the next step"));
  EXPECT_THAT(with([](auto& p) {
                p.consumer_ordinal = 0;
                p.consumer = "allreduce";
              }),
              refused("does not read it"));
  EXPECT_THAT(spoilt([](Plan& p, DeviceModel&) { p.windows[0].ordinal = -1; }),
              refused("operator -1"));
  EXPECT_THAT(spoilt([](Plan& p, DeviceModel&) { p.windows.push_back(p.windows[0]); }),
              refused("must ascend"));
  EXPECT_THAT(spoilt([](Plan&, DeviceModel& d) { d.methods.clear(); }),
              refused("no prefetch method"));
  EXPECT_THAT(spoilt([](Plan&, DeviceModel& d) { d.memory_bandwidth_bytes_per_s = 0; }),
              refused("memory bandwidth"));
  EXPECT_THAT(spoilt([](Plan&, DeviceModel& d) { d.slowdown_per_byte_ns = NAN; }),
              refused("slowdown_per_byte_ns"));
  EXPECT_THAT(spoilt([](Plan&, DeviceModel&) {},
                     {.method = "magic", .placement = {}, .link_latency_ns = 0}),
              refused("no prefetch method magic"));
}

}  // namespace
}  // namespace preserve
