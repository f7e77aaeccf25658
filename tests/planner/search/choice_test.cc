// SPDX-License-Identifier: Apache-2.0
// Which of its plans the planner chooses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "planner/problem/bounds.h"
#include "planner/search/bfs.h"
#include "planner/search/decompose.h"
#include "planner/search/plan.h"
#include "tests/planner/synthetic_step.h"
#include "tests/planner/tiny_step.h"
#include "tests/support/devices.h"

namespace preserve {
namespace {

using test::gpu_device;
using test::random_device;
using test::random_step;
using test::synthetic_step;
using testing::HasSubstr;

bool same_orders(const Plan& plan, const std::vector<PlannedWindow>& windows) {
  const auto orders = [](const std::vector<PlannedWindow>& of) {
    std::vector<std::tuple<int32_t, std::string, int32_t, int64_t, int64_t>> all;
    for (const PlannedWindow& window : of) {
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        all.emplace_back(window.ordinal, prefetch.tensor, prefetch.consumer_ordinal,
                         prefetch.offset_bytes, prefetch.length_bytes);
      }
    }
    return all;
  };
  return orders(plan.windows) == orders(windows);
}

// A referee that finds the plan of bfs fastest and everything else a loss.
TEST(Choice, FollowsTheRefereeAgainstTheModel) {
  const FoldedStep step = synthetic_step();
  const DeviceModel device = gpu_device();
  const auto bfs = plan_bfs(step, build_problem(step, device, {}));
  const Referee partial = [&](const FoldedStep&, const DeviceModel&, const Plan& plan,
                              const SimulationOptions&) {
    SimulationResult result;
    result.baseline_step_ns = 100;
    result.step_ns = same_orders(plan, bfs) ? 80 : 120;
    return result;
  };
  PlanOptions options;
  options.min_prefetch_bytes = 0;
  const Planned planned = make_schedule(step, device, options, partial);
  EXPECT_TRUE(same_orders(planned.schedule.plan, bfs));
  EXPECT_DOUBLE_EQ(planned.schedule.plan.speedup, 1.25);
  EXPECT_THAT(planned.schedule.plan.reasons.front(), HasSubstr("prefers the plan of bfs"));
  ASSERT_FALSE(planned.schedule.candidates.empty());
  EXPECT_EQ(planned.schedule.candidates[0].strategy, Strategy::flow);
}

// A flow's plan may be given up for one whose objective is confirmed, but not below bfs. The
// tolerance: what is cut to whole blocks that arrive loses a part of a block.
RC_GTEST_PROP(ChoiceProperty, IsNeverWorseThanBfs, (uint64_t seed)) {
  const FoldedStep step = random_step(seed);
  const DeviceModel device = random_device(seed);
  PlanOptions bfs;
  bfs.strategy = Strategy::bfs;
  const auto step_ns = [&](const PlanOptions& options) {
    return static_cast<double>(make_schedule(step, device, options).schedule.plan.prefetch_step_ns);
  };
  RC_ASSERT(step_ns({}) <= 1.0002 * step_ns(bfs));
}

RC_GTEST_PROP(ChoiceProperty, AsksForNoMoreThanArrives, (uint64_t seed)) {
  const FoldedStep step = random_step(seed);
  const DeviceModel device = random_device(seed);
  const Schedule schedule = make_schedule(step, device, {}).schedule;
  std::vector<Plan> plans = schedule.candidates;
  plans.push_back(schedule.plan);
  for (const Plan& plan : plans) {
    const SimulationResult found =
        simulate(step, device, plan, {schedule.method.name, schedule.method.placement, 0});
    double asked_bytes = 0, partial_bytes = 1;
    for (const PlannedWindow& window : plan.windows) {
      asked_bytes += static_cast<double>(window.used_bytes);
      partial_bytes += static_cast<double>(window.prefetches.size()) * kBlockBytes;
    }
    RC_ASSERT(asked_bytes <= 1.05 * found.arrived_bytes + partial_bytes);
  }
}

RC_GTEST_PROP(ChoiceProperty, MoreWindowsAreNeverWorse, (uint64_t seed)) {
  const FoldedStep step = random_step(seed);
  const DeviceModel device = random_device(seed);
  PlanOptions idle;
  idle.problem.windows = WindowsMode::idle;
  RC_ASSERT(make_schedule(step, device, idle).schedule.plan.prefetch_step_ns <=
            make_schedule(step, device, {}).schedule.plan.prefetch_step_ns);
}

TEST(Choice, NoConfirmedObjectiveIsWorthALossAgainstBfs) {
  const FoldedStep step = synthetic_step();
  const DeviceModel device = gpu_device();
  const PlanProblem problem = build_problem(step, device, {});
  const FlowSolution optimum = solve_flow(problem.flow);
  PlanOptions options;
  options.min_prefetch_bytes = 0;
  const auto first = decompose(step, problem, optimum).windows;
  const auto bfs = plan_bfs(step, problem);
  // The first optimum saves twice its objective, all others a little less.
  const double objective_share = price_to_ns(optimum.profit) / problem.baseline_step_ns;
  const auto choose = [&](double bfs_step) {
    const Referee referee = [&](const FoldedStep&, const DeviceModel&, const Plan& plan,
                                const SimulationOptions&) {
      SimulationResult result;
      result.baseline_step_ns = 1;
      result.step_ns = same_orders(plan, bfs)     ? bfs_step
                       : same_orders(plan, first) ? 1 - 2 * objective_share
                                                  : 1 - 2 * objective_share + 0.003;
      return result;
    };
    return make_schedule(step, device, options, referee).schedule.plan;
  };
  EXPECT_FALSE(same_orders(choose(1.0), first));
  EXPECT_TRUE(same_orders(choose(1 - 2 * objective_share + 0.001), first));
}

TEST(Choice, DoesNothingWhenTheRefereeSeesOnlyLosses) {
  const Referee harsh = [](const FoldedStep&, const DeviceModel&, const Plan&,
                           const SimulationOptions&) {
    SimulationResult result;
    result.baseline_step_ns = 100;
    result.step_ns = 110;
    return result;
  };
  const Schedule schedule = make_schedule(synthetic_step(), gpu_device(), {}, harsh).schedule;
  EXPECT_EQ(schedule.plan.verdict, PlanVerdict::do_nothing);
  EXPECT_EQ(schedule.plan.strategy, Strategy::none);
  EXPECT_TRUE(schedule.plan.windows.empty());
  EXPECT_THAT(schedule.plan.reasons, testing::ElementsAre(HasSubstr("predicted to be slower")));
  ASSERT_EQ(schedule.candidates.size(), 2u);
  EXPECT_GT(schedule.candidates[0].windows.size(), 0u);
}

TEST(Choice, SaysWhenTheRefereeFindsMoreThanABound) {
  const Referee generous = [](const FoldedStep&, const DeviceModel&, const Plan&,
                              const SimulationOptions&) {
    SimulationResult result;
    result.baseline_step_ns = 100;
    result.step_ns = 1;
    return result;
  };
  const Schedule schedule = make_schedule(synthetic_step(), gpu_device(), {}, generous).schedule;
  EXPECT_GT(schedule.all_hot_step_ns, schedule.plan.prefetch_step_ns);
  EXPECT_THAT(schedule.warnings, testing::Contains(testing::AllOf(
                                     HasSubstr("below a bound"), HasSubstr("every read hot"),
                                     HasSubstr("only windows limit"))));
}

}  // namespace
}  // namespace preserve
