// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <functional>
#include <map>

#include "common/error.h"

namespace preserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Returns what a function says for (arm, number of the run); its clock advances by the step time.
class FakeExecutor final : public Executor {
 public:
  using Behaviour = std::function<ArmSample(size_t arm, int run)>;
  FakeExecutor(std::vector<std::string> arms, Behaviour behaviour)
      : arms_(std::move(arms)), behaviour_(std::move(behaviour)) {}

  int64_t clock_ns = 0;
  std::vector<size_t> order;

 private:
  const std::vector<std::string>& do_arms() const override { return arms_; }
  ArmSample do_run(size_t arm, int steps) override {
    const ArmSample sample = behaviour_(arm, static_cast<int>(order.size()));
    order.push_back(arm);
    clock_ns += sample.step_ns * (steps + 1);
    return sample;
  }
  bool do_agree(bool yes) override { return yes; }

  std::vector<std::string> arms_;
  Behaviour behaviour_;
};

ArmSample step(int64_t step_ns, bool interrupted = false, int64_t probe_ns = 1000,
               uint64_t checksum = 7) {
  return {step_ns, interrupted, probe_ns, checksum};
}

// A small deterministic disturbance, up to +-part.
int64_t noisy(int64_t ns, int run, double part) {
  const double wave = static_cast<double>((run * 7919) % 101) / 50.0 - 1.0;
  return static_cast<int64_t>(static_cast<double>(ns) * (1 + part * wave));
}

// A plan that gains what the times of a step say, each disturbed by up to +-part.
FakeExecutor plan_of(int64_t baseline_ns, int64_t prefetch_ns, double part) {
  return {{"baseline", "prefetch"}, [=](size_t arm, int number) {
            return step(noisy(arm == 0 ? baseline_ns : prefetch_ns, number, part));
          }};
}

// Samples that were left out for that reason.
int64_t discarded(const Measurement& measured, const std::string& reason) {
  return std::count_if(measured.samples.begin(), measured.samples.end(),
                       [&](const MeasuredSample& sample) { return sample.discarded == reason; });
}

Measurement run_all(FakeExecutor& executor, MeasureOptions options = {}) {
  return measure(executor, options, [&] { return executor.clock_ns; });
}

ReplayResult run(FakeExecutor& executor, MeasureOptions options = {}) {
  return run_all(executor, options).result;
}

double speedup_of(const ArmResult& arm) {
  return arm.speedup ? arm.speedup->estimate : 0;
}

// Results of a plan with this interval around `estimate`.
std::vector<ArmResult> plan_with(int64_t pairs, double estimate, double half_width) {
  ArmResult plan{.name = "prefetch", .counted = pairs, .pairs = pairs};
  plan.speedup = Estimated{estimate, estimate - half_width, estimate + half_width};
  return {{.name = "baseline"}, plan};
}

std::string stop_after(StoppingRule& rule, int passes, const std::vector<ArmResult>& look,
                       bool time_is_up = false) {
  std::string reason;
  for (int i = 0; i < passes && reason.empty(); ++i) {
    reason = rule.after_pass(time_is_up, [&] { return look; });
  }
  return reason;
}

TEST(StoppingRule, StopsOnceEveryPlanIsPrecise) {
  MeasureOptions options{.min_pairs = 12, .max_pairs = 100, .precision = 0.002};
  StoppingRule rule(options);
  EXPECT_EQ(stop_after(rule, 100, plan_with(50, 1.5, 0.002)), "precise");
  EXPECT_EQ(rule.passes(), 16) << "the first look after 12 passes";
  StoppingRule wide(options);
  EXPECT_EQ(stop_after(wide, 99, plan_with(50, 1.5, 0.004)), "") << "0.4 % of 1.5 is wanted";
  StoppingRule few(options);
  EXPECT_EQ(stop_after(few, 99, plan_with(11, 1.5, 0)), "") << "too few pairs";
  auto rivals = plan_with(50, 1.5, 0.001);
  rivals.push_back(plan_with(50, 1.5, 0.1)[1]);
  rivals[2].name = "hot";
  StoppingRule explaining(options);
  EXPECT_EQ(stop_after(explaining, 99, rivals), "precise") << "arm hot decides nothing";
  rivals[2].name = "prefetch-1";
  StoppingRule rival(options);
  EXPECT_EQ(stop_after(rival, 99, rivals), "");
}

TEST(StoppingRule, LooksOnlyEveryFewPasses) {
  StoppingRule rule(MeasureOptions{.min_pairs = 12, .max_pairs = 100});
  int looks = 0;
  for (int pass = 0; pass < 40; ++pass) {
    rule.after_pass(false, [&] {
      ++looks;
      return plan_with(50, 1, 1);
    });
  }
  EXPECT_EQ(looks, 7) << "after 16, 20, ... 40";
}

TEST(StoppingRule, TimeAndPairsAreLimits) {
  const auto wild = plan_with(50, 1, 1);
  StoppingRule late(MeasureOptions{});
  EXPECT_EQ(stop_after(late, 9, wild, true), "time-limit");
  EXPECT_EQ(late.passes(), 2) << "the first pass only warms up";
  StoppingRule many(MeasureOptions{.max_pairs = 20});
  EXPECT_EQ(stop_after(many, 100, wild), "pair-limit");
  EXPECT_EQ(many.passes(), 20);
}

TEST(PassOrder, TwoArmsRunAbba) {
  EXPECT_THAT(pass_order(0, 2), ElementsAre(0, 1));
  EXPECT_THAT(pass_order(1, 2), ElementsAre(1, 0));
  EXPECT_THAT(pass_order(2, 2), ElementsAre(1, 0));
  EXPECT_THAT(pass_order(3, 2), ElementsAre(0, 1));
}

RC_GTEST_PROP(PassOrder, EveryArmStandsInEveryPlaceAndFollowsEveryOtherEquallyOften, ()) {
  const auto arms = *rc::gen::inRange<size_t>(2, 9);
  std::map<std::pair<size_t, size_t>, int> places;
  std::map<std::pair<size_t, size_t>, int> follows;
  for (int pass = 0; pass < static_cast<int>(2 * arms); ++pass) {
    const std::vector<size_t> order = pass_order(pass, arms);
    for (size_t place = 0; place < arms; ++place) {
      ++places[{order[place], place}];
      if (place > 0) ++follows[{order[place - 1], order[place]}];
    }
  }
  RC_ASSERT(places.size() == arms * arms);
  RC_ASSERT(follows.size() == arms * (arms - 1));
  for (const auto& [at, count] : places) RC_ASSERT(count == 2);
  for (const auto& [at, count] : follows) RC_ASSERT(count == 2);
}

TEST(Measure, FindsTheSpeedupAndStopsWhenPrecise) {
  FakeExecutor executor = plan_of(1'200'000, 1'000'000, 0.002);
  const ReplayResult result = run(executor);
  EXPECT_EQ(result.stop_reason, "precise");
  EXPECT_EQ(result.verdict, Verdict::fast);
  EXPECT_NEAR(speedup_of(result.arms[1]), 1.2, 0.005);
  EXPECT_TRUE(result.arms[1].speedup->interval());
  EXPECT_GE(result.arms[1].pairs, MeasureOptions{}.min_pairs);
  EXPECT_EQ(result.steps_per_sample, 8);  // 10 ms of 1.2 ms steps
}

TEST(Measure, EqualArmsAreTheSameAndASlowPlanIsSlow) {
  FakeExecutor equal = plan_of(2'000'000, 2'000'000, 0.004);
  EXPECT_EQ(run(equal).verdict, Verdict::same);
  FakeExecutor slow = plan_of(1'000'000, 1'050'000, 0.002);
  EXPECT_EQ(run(slow).verdict, Verdict::slow);
}

TEST(Measure, TheTimeLimitEndsAWildMeasurement) {
  FakeExecutor executor = plan_of(3'000'000, 3'000'000, 0.5);
  const ReplayResult result = run(executor, {.time_limit_ns = 2'000'000'000});
  EXPECT_EQ(result.stop_reason, "time-limit");
  EXPECT_EQ(result.verdict, Verdict::ambiguous);
}

TEST(Measure, EvenTheShortestLimitCountsOnePass) {
  FakeExecutor executor({"baseline", "prefetch"}, [](size_t, int) { return step(50'000'000); });
  const ReplayResult result = run(executor, {.time_limit_ns = 1});
  EXPECT_EQ(result.passes, 2);
  EXPECT_EQ(result.arms[1].pairs, 1);
  EXPECT_EQ(result.verdict, Verdict::ambiguous);  // one pair decides nothing
}

TEST(Measure, ThePairLimitHolds) {
  FakeExecutor executor = plan_of(100'000, 100'000, 0.9);
  const ReplayResult result = run(executor, {.time_limit_ns = INT64_MAX, .max_pairs = 20});
  EXPECT_EQ(result.stop_reason, "pair-limit");
  EXPECT_EQ(result.passes, 20);
}

TEST(Measure, TheFirstPassIsWarmUp) {
  FakeExecutor executor({"baseline", "prefetch", "null"}, [](size_t, int number) {
    return step(number < 4 ? 9'000'000 : 1'000'000);
  });
  const Measurement measured = run_all(executor);
  const ReplayResult& result = measured.result;
  for (const MeasuredSample& sample : measured.samples) {
    EXPECT_EQ(sample.discarded == "warm-up", sample.pair == 0);
  }
  EXPECT_EQ(result.arms[0].step_ns->estimate, 1'000'000);
}

TEST(Measure, ADriftHitsAllArmsAlike) {
  // 1 % slower with every run: a fixed order would see a difference that does not exist.
  FakeExecutor executor({"baseline", "prefetch"},
                        [](size_t, int number) { return step(1'000'000 + 10'000 * number); });
  const MeasureOptions options{.time_limit_ns = INT64_MAX, .max_pairs = 41, .precision = 0};
  EXPECT_NEAR(speedup_of(run(executor, options).arms[1]), 1.0, 0.003);
}

TEST(Measure, InterruptedSlowSamplesAreDiscardedAndCounted) {
  FakeExecutor executor({"baseline", "prefetch"}, [](size_t arm, int number) {
    const bool interrupted = number % 5 == 0;
    const int64_t step_ns = noisy(arm == 0 ? 1'100'000 : 1'000'000, number, 0.001);
    return step(interrupted ? 3 * step_ns : step_ns, interrupted);
  });
  const Measurement measured = run_all(executor);
  const ReplayResult& result = measured.result;
  EXPECT_GT(discarded(measured, "interrupted"), 0);
  EXPECT_NEAR(speedup_of(result.arms[1]), 1.1, 0.005);
  EXPECT_FALSE(result.busy);
}

TEST(Measure, AHarmlessInterruptionCounts) {
  FakeExecutor executor({"baseline", "prefetch"},
                        [](size_t, int number) { return step(1'000'000, number % 4 == 0); });
  EXPECT_EQ(discarded(run_all(executor), "interrupted"), 0);
}

TEST(Measure, ABusyMachineGivesNoVerdict) {
  FakeExecutor executor({"baseline", "prefetch"}, [](size_t arm, int number) {
    return step(noisy(arm == 0 ? 1'500'000 : 1'000'000, number, 0.001), true);
  });
  const ReplayResult result = run(executor);
  EXPECT_TRUE(result.busy);
  EXPECT_EQ(result.verdict, Verdict::ambiguous);
}

TEST(Measure, ThrottledSamplesAreDiscarded) {
  FakeExecutor executor({"baseline", "prefetch"}, [](size_t, int number) {
    return step(1'000'000, false, number == 9 ? 1300 : 1000);
  });
  EXPECT_EQ(discarded(run_all(executor), "throttled"), 1);
}

TEST(Measure, AnArmThatDidOtherWorkIsRefused) {
  FakeExecutor executor({"baseline", "prefetch"},
                        [](size_t arm, int) { return step(1'000'000, false, 1000, arm); });
  EXPECT_THAT([&] { run(executor); }, testing::ThrowsMessage<Error>(HasSubstr("prefetch")));
}

TEST(Measure, TimesAndSpeedupAreOfTheSamePairs) {
  // The machine changes from pass to pass, and every second pass loses one of its two samples.
  FakeExecutor executor({"baseline", "prefetch", "hot"}, [](size_t arm, int number) {
    const bool interrupted = arm != 2 && number % 4 == 1;
    const int64_t step_ns = (number + 2) / 3 % 2 == 0 ? 1'000'000 : 1'040'000;
    return step(interrupted ? 2 * step_ns : step_ns, interrupted);
  });
  const ReplayResult result = run(executor, {.max_pairs = 40});
  EXPECT_LT(result.arms[1].pairs, 39);
  EXPECT_EQ(result.arms[0].counted, result.arms[1].counted);
  EXPECT_EQ(result.arms[1].counted, result.arms[1].pairs);
  EXPECT_EQ(result.arms[2].counted, result.arms[2].pairs);
  EXPECT_DOUBLE_EQ(speedup_of(result.arms[1]),
                   result.arms[0].step_ns->estimate / result.arms[1].step_ns->estimate);
}

TEST(Measure, TheSameSamplesGiveTheSameResult) {
  FakeExecutor first = plan_of(1'020'000, 1'000'000, 0.05);
  FakeExecutor second = plan_of(1'020'000, 1'000'000, 0.05);
  const ReplayResult a = run(first);
  const ReplayResult b = run(second);
  EXPECT_EQ(a.passes, b.passes);
  EXPECT_EQ(a.arms[1].speedup->low, b.arms[1].speedup->low);
  EXPECT_EQ(a.arms[1].speedup->high, b.arms[1].speedup->high);
}

RC_GTEST_PROP(Measure, CountedAndDiscardedAreAllSamples, ()) {
  const auto arms = *rc::gen::inRange<size_t>(2, 6);
  const auto seed = *rc::gen::inRange(0, 1000);
  std::vector<std::string> names{"baseline"};
  for (size_t i = 1; i < arms; ++i) names.push_back("prefetch-" + std::to_string(i));
  FakeExecutor executor(names, [&](size_t arm, int number) {
    return step(noisy(1'000'000 + static_cast<int64_t>(arm) * 10'000, number + seed, 0.2),
                (number + seed) % 6 == 0, (number + seed) % 11 == 0 ? 2000 : 1000);
  });
  const Measurement measured = run_all(executor, {.max_pairs = *rc::gen::inRange(2, 30)});
  const ReplayResult& result = measured.result;
  size_t counted = 0;
  for (const ArmResult& arm : result.arms) counted += static_cast<size_t>(arm.counted);
  const auto discarded = static_cast<size_t>(
      std::count_if(measured.samples.begin(), measured.samples.end(),
                    [](const MeasuredSample& sample) { return !sample.discarded.empty(); }));
  RC_ASSERT(counted + discarded == measured.samples.size());
  RC_ASSERT(measured.samples.size() == static_cast<size_t>(result.passes) * arms);
  for (const ArmResult& arm : result.arms) {
    const Interval interval = arm.paired_speedup().interval;
    RC_ASSERT(interval.low <= interval.estimate && interval.estimate <= interval.high);
  }
}

}  // namespace
}  // namespace preserve
