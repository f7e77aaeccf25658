// SPDX-License-Identifier: Apache-2.0
// The closed loop against scripted machines: what it learns, what it chooses, that it ends.
#include "planner/measure/closed_loop.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "common/error.h"
#include "planner/measure/issue_variants.h"
#include "tests/planner/measure/scripted_world.h"
#include "tests/planner/synthetic_step.h"
#include "tests/support/devices.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::run_loop;
using test::World;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr int64_t kLinkNs = 200'000;

// Two ranks on a CPU that share a cache of 32 MB; steps that take milliseconds.
DeviceModel cpu_device() {
  DeviceModel device = test::cpu_device();
  device.ranks = 2;
  device.cache_bytes = 32'000'000;
  device.cache_budget_bytes = 14'000'000;
  device.memory_bandwidth_bytes_per_s = 25e9;
  device.slowdown_per_byte_ns = 0.001;
  PrefetchMethod method = device.methods[0];
  method.start_latency_ns = 600;
  method.chunk_bytes = 8192;
  device.methods = {method, method};
  device.methods[0].bandwidth_bytes_per_s = 20e9;
  device.methods[1].name = "prefetcht1";
  device.methods[1].bandwidth_bytes_per_s = 18e9;
  device.methods[1].hit_read_bandwidth_bytes_per_s = 48e9;
  return device;
}

FoldedStep cpu_step(int64_t qkv_bytes = 3 << 19, int64_t kv_bytes = 1 << 20) {
  return test::synthetic_step({.layers = 3,
                               .qkv_bytes = qkv_bytes,
                               .gate_up_bytes = 4 << 20,
                               .kv_bytes = kv_bytes,
                               .bandwidth_bytes_per_s = 24e9,
                               .noise = 0});
}

const PlanOptions kLinked{.problem = {.link_latency_ns = kLinkNs}};

std::string all_reasons(const Schedule& schedule) {
  return fmt::format("{}", fmt::join(schedule.plan.reasons, "\n"));
}

class ClosedLoopTest : public testing::Test {
 protected:
  World world() const { return {.step = &step_, .truth = device_, .link_latency_ns = kLinkNs}; }
  ClosedLoop loop(int rounds = 2) const { return {step_, device_, kLinked, rounds}; }

  Schedule choose(const World& world) const {
    ClosedLoop loop = this->loop();
    return run_loop(loop, world);
  }

  FoldedStep step_ = cpu_step();
  DeviceModel device_ = cpu_device();
};

TEST_F(ClosedLoopTest, AWinnerIsChosenAndMeasuredOnceMore) {
  ClosedLoop loop = this->loop();
  ASSERT_TRUE(loop.next());
  EXPECT_EQ(loop.next()->plan.verdict, PlanVerdict::prefetch);
  EXPECT_FALSE(loop.next()->candidates.empty());
  const Schedule chosen = run_loop(loop, world());
  EXPECT_EQ(chosen.plan.verdict, PlanVerdict::prefetch);
  ASSERT_TRUE(chosen.plan.measured);
  EXPECT_GT(*chosen.plan.measured->low, 1);
  EXPECT_THAT(chosen.plan.reasons.back(), AllOf(HasSubstr("measured 1."), HasSubstr("once more"),
                                                HasSubstr("stand-in for a network link")));
  for (const Plan& plan : chosen.candidates) EXPECT_TRUE(plan.measured);
}

TEST_F(ClosedLoopTest, TheResultIsAScheduleThatLoads) {
  const Schedule chosen = choose(world());
  const test::TemporaryDirectory folder;
  std::ofstream(folder / "schedule.json") << to_json(chosen);
  const Schedule read = load_schedule(folder / "schedule.json");
  EXPECT_EQ(read.candidates.size(), chosen.candidates.size());
  EXPECT_EQ(read.plan.measured->pairs, 100);
}

TEST_F(ClosedLoopTest, WhatAWindowCostsIsLearntAndPlannedWith) {
  step_ = cpu_step(128 << 10, 64 << 10);
  device_.cache_budget_bytes = 4 << 20;  // what fits, one window of a layer can fetch nearly alone
  World world = this->world();
  const Plan without = choose(world).plan;
  world.truth.window_cost_ns = 40'000;
  const Schedule chosen = choose(world);
  EXPECT_THAT(all_reasons(chosen), HasSubstr("cost of a window: 40.00 us instead of 0 ns"));
  EXPECT_THAT(all_reasons(chosen), Not(HasSubstr("lengthens its collective")));
  EXPECT_LT(used_windows(chosen.plan), used_windows(without));
  ASSERT_TRUE(chosen.plan.measured);
  EXPECT_NEAR(chosen.plan.speedup, chosen.plan.measured->speedup, 0.005);
}

TEST_F(ClosedLoopTest, AnotherMethodWinsWhereItIsBetter) {
  World world = this->world();
  world.issued = [](const IssueMethod& issue, PrefetchMethod& method) {
    if (issue.name == "load") method.hit_read_bandwidth_bytes_per_s = 26e9;  // hardly helps
  };
  const Schedule chosen = choose(world);
  EXPECT_EQ(chosen.plan.verdict, PlanVerdict::prefetch);
  EXPECT_EQ(chosen.method.name, "prefetcht1");
  EXPECT_FALSE(chosen.plan.method);  // the schedule's own
  const auto other = std::find_if(chosen.candidates.begin(), chosen.candidates.end(),
                                  [](const Plan& plan) { return plan.method.has_value(); });
  ASSERT_NE(other, chosen.candidates.end());
  EXPECT_EQ(other->method->name, "load");
}

TEST_F(ClosedLoopTest, BeginsWithTheOtherPlacementWhereItsPlanIsBetter) {
  device_.methods[1] = device_.methods[0];
  device_.methods[1].placement = "spare";
  device_.methods[0].bandwidth_bytes_per_s /= 8;
  World world = this->world();
  const Schedule chosen = choose(world);
  EXPECT_EQ(chosen.plan.verdict, PlanVerdict::prefetch);
  EXPECT_EQ(chosen.method.placement, "spare");
  EXPECT_FALSE(chosen.plan.method);
}

// The device file is too optimistic: every plan is slower.
TEST_F(ClosedLoopTest, DoesNothingWhereNothingWins) {
  World world = this->world();
  world.truth.methods[0].hit_read_bandwidth_bytes_per_s = 25.1e9;
  world.truth.methods[1].hit_read_bandwidth_bytes_per_s = 25.1e9;
  world.truth.slowdown_per_byte_ns = 0.02;
  const Schedule chosen = choose(world);
  EXPECT_EQ(chosen.plan.verdict, PlanVerdict::do_nothing);
  EXPECT_EQ(chosen.plan.strategy, Strategy::none);
  EXPECT_THAT(chosen.plan.windows, IsEmpty());
  EXPECT_FALSE(chosen.plan.measured);
  EXPECT_THAT(chosen.plan.reasons.back(), AllOf(HasSubstr("none of"), HasSubstr("0.")));
  EXPECT_THAT(chosen.candidates, Not(IsEmpty()));
  for (const Plan& plan : chosen.candidates) EXPECT_TRUE(plan.measured);
}

TEST_F(ClosedLoopTest, TooFewPairsDecideNothing) {
  World world = this->world();
  world.pairs = kFewestPairs - 1;
  const Schedule chosen = choose(world);
  EXPECT_EQ(chosen.plan.verdict, PlanVerdict::do_nothing);
  EXPECT_THAT(chosen.plan.reasons.back(),
              AllOf(HasSubstr("too few pairs"), HasSubstr("a longer --measure-time")));
  EXPECT_FALSE(chosen.candidates.front().measured->low);
}

TEST_F(ClosedLoopTest, ABusyMachineIsAskedTwiceAndDecidesNothing) {
  World world = this->world();
  world.busy = true;
  ClosedLoop loop = this->loop();
  const std::string first = to_json(*loop.next());
  loop.take(world.replay(*loop.next()));
  ASSERT_TRUE(loop.next());
  EXPECT_EQ(to_json(*loop.next()), first);
  loop.take(world.replay(*loop.next()));
  EXPECT_FALSE(loop.next());
  EXPECT_EQ(loop.result().plan.verdict, PlanVerdict::do_nothing);
  EXPECT_THAT(all_reasons(loop.result()), HasSubstr("idle machine"));
}

TEST_F(ClosedLoopTest, OneBusyReplayIsRepeatedAndForgotten) {
  ClosedLoop loop = this->loop();
  World world = this->world();
  world.busy = true;
  loop.take(world.replay(*loop.next()));
  world.busy = false;
  EXPECT_EQ(run_loop(loop, world).plan.verdict, PlanVerdict::prefetch);
}

// The best of several was lucky: alone it does not win again.
TEST_F(ClosedLoopTest, LuckIsNotChosen) {
  ClosedLoop loop = this->loop();
  World world = this->world();
  while (loop.next()) {
    ReplayFindings findings = world.replay(*loop.next());
    if (loop.purpose() == "the winner alone") {
      ASSERT_THAT(findings.plans, testing::SizeIs(1));
      findings.plans[0].speedup.interval = {0.99, 1.0, 1.01};
    }
    loop.take(findings);
  }
  const Schedule chosen = loop.result();
  EXPECT_EQ(chosen.plan.verdict, PlanVerdict::do_nothing);
  EXPECT_THAT(chosen.plan.reasons.back(),
              AllOf(HasSubstr("measured once more, alone"), HasSubstr("1.000x [0.990, 1.010]"),
                    HasSubstr("stand-in for a network link")));
}

TEST_F(ClosedLoopTest, NothingToFetchNeedsNoReplay) {
  device_.methods.clear();
  ClosedLoop without_methods = loop();
  EXPECT_FALSE(without_methods.next());
  EXPECT_EQ(without_methods.result().plan.verdict, PlanVerdict::do_nothing);
  EXPECT_THAT(without_methods.result().plan.reasons.back(), HasSubstr("no prefetch method"));
  device_ = cpu_device();
  PlanOptions none = kLinked;
  none.strategy = Strategy::none;
  ClosedLoop without_plans(step_, device_, none, 2);
  EXPECT_FALSE(without_plans.next());
  EXPECT_EQ(without_plans.result().plan.verdict, PlanVerdict::do_nothing);
}

TEST_F(ClosedLoopTest, FindingsMustBeThoseOfTheReplay) {
  ClosedLoop loop = this->loop();
  EXPECT_THROW(loop.take({}), Error);
  EXPECT_THROW(loop.result(), Error);
}

// With every further round the prediction of the newest plan comes closer to its measurement.
TEST_F(ClosedLoopTest, AWrongDeviceFileIsCorrected) {
  World world = this->world();
  for (PrefetchMethod& method : device_.methods) {
    method.hit_read_bandwidth_bytes_per_s = 200e9;  // truth: 50 GB/s
    method.bandwidth_bytes_per_s *= 1.25;
  }
  ClosedLoop loop = this->loop(4);
  std::vector<double> errors;
  while (loop.next()) {
    const ReplayFindings findings = world.replay(*loop.next());
    if (loop.purpose() != "the winner alone") {
      errors.push_back(
          std::fabs(loop.next()->plan.speedup / findings.plans[0].speedup.interval.estimate - 1));
    }
    loop.take(findings);
  }
  ASSERT_GE(errors.size(), 2U);
  EXPECT_GT(errors.front(), 0.02);
  EXPECT_LT(errors.back(), errors.front() / 3);
  EXPECT_THAT(all_reasons(loop.result()),
              AllOf(HasSubstr("learnt from replay 1"), HasSubstr("instead of")));
}

// --- for any step, device and machine

struct AnyLoop {
  FoldedStep step;
  DeviceModel device;
  World world;
  int rounds = 1;
};

double factor(double most) {
  return std::exp(*rc::gen::inRange(-1000, 1001) / 1000.0 * std::log(most));
}

AnyLoop any_loop() {
  AnyLoop any;
  const auto seed = *rc::gen::inRange<uint64_t>(0, 1 << 20);
  any.step = test::random_step(seed, 30);
  any.device = test::random_device(seed);
  PrefetchMethod second = any.device.methods[0];
  second.name = "second";
  any.device.methods.push_back(second);
  any.world.truth = any.device;
  for (PrefetchMethod& method : any.world.truth.methods) {
    method.bandwidth_bytes_per_s *= factor(4);
    method.hit_read_bandwidth_bytes_per_s =
        any.device.memory_bandwidth_bytes_per_s * (1 + factor(8));
  }
  any.world.truth.slowdown_per_byte_ns *= factor(8);
  any.world.half_width = *rc::gen::inRange(1, 50) / 1000.0;
  any.world.pairs = *rc::gen::element(3, 50);
  any.rounds = *rc::gen::inRange(1, 4);
  return any;
}

RC_GTEST_PROP(ClosedLoopProperty, NeverChoosesWhatWasNotMeasuredFaster, ()) {
  AnyLoop any = any_loop();
  any.world.step = &any.step;
  const auto run = [&] {
    ClosedLoop loop(any.step, any.device, {}, any.rounds);
    return run_loop(loop, any.world);
  };
  const Schedule chosen = run();
  RC_CLASSIFY(chosen.plan.verdict == PlanVerdict::prefetch, "a plan won");
  RC_CLASSIFY(chosen.candidates.empty(), "nothing was measured");
  if (chosen.plan.verdict == PlanVerdict::prefetch) {
    RC_ASSERT(chosen.plan.measured.has_value());
    RC_ASSERT(chosen.plan.measured->low.value_or(0) > 1);
    RC_ASSERT(chosen.plan.measured->pairs >= kFewestPairs);
  } else {
    RC_ASSERT(chosen.plan.windows.empty());
    RC_ASSERT(chosen.plan.speedup == 1);
    for (const Plan& plan : chosen.candidates) {
      RC_ASSERT(plan.measured->low.value_or(0) <= 1);  // this world says the same twice
    }
  }
  RC_ASSERT(to_json(run()) == to_json(chosen));
}

RC_GTEST_PROP(ClosedLoopProperty, NoPlanIsMeasuredTwiceButTheWinner, ()) {
  AnyLoop any = any_loop();
  any.world.step = &any.step;
  ClosedLoop loop(any.step, any.device, {}, any.rounds);
  std::vector<std::pair<Plan, IssueMethod>> seen;
  int replays = 0;
  while (loop.next()) {
    const Schedule& schedule = *loop.next();
    std::vector<Plan> plans = schedule.candidates;
    plans.push_back(schedule.plan);
    RC_ASSERT(plans.size() <= 3 + kMostVariants);
    for (const Plan& plan : plans) {
      const IssueMethod& issue = method_of(schedule, plan);
      const bool before = std::any_of(seen.begin(), seen.end(), [&](const auto& other) {
        return other.second == issue && same_prefetches(other.first.windows, plan.windows);
      });
      RC_ASSERT(before == (loop.purpose() == "the winner alone"));
      seen.emplace_back(plan, issue);
    }
    loop.take(any.world.replay(schedule));
    RC_ASSERT(++replays <= any.rounds + 1);
  }
}

}  // namespace
}  // namespace preserve
