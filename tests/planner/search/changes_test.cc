// SPDX-License-Identifier: Apache-2.0
// Changes of a plan keep to what the cache, the windows and the tensors allow.
#include "planner/search/changes.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "common/as_index.h"
#include "planner/search/decompose.h"
#include "planner/search/search.h"
#include "tests/planner/synthetic_step.h"
#include "tests/planner/tiny_step.h"
#include "tests/support/devices.h"

namespace preserve {
namespace {

// A step, its windows, and the limits of plans for it.
struct Limited {
  explicit Limited(uint64_t seed, const FoldedStep& of)
      : step(of), problem(build_problem(step, test::random_device(seed), {})) {
    for (const Window& window : problem.windows) limits.most_bytes.push_back(window.capacity_bytes);
    limits.budget_bytes = problem.budget_bytes;
    limits.min_prefetch_bytes = 4 * kBlockBytes;
  }

  void check(const Amounts& amounts) const {
    std::vector<int64_t> left;
    for (const PlanConsumer& of : problem.consumers) left.push_back(of.blocks);
    for (size_t w = 0; w < amounts.size(); ++w) {
      RC_ASSERT(sum(amounts[w]) <= limits.most_bytes[w] / kBlockBytes);
      int64_t last = 0;
      for (const Share& share : amounts[w]) {
        RC_ASSERT(share.blocks > 0);
        left[as_index(share.consumer)] -= share.blocks;
        RC_ASSERT(last < ring.distance(w, share.consumer));  // in the order of reading
        last = ring.distance(w, share.consumer);
      }
    }
    RC_ASSERT(*std::min_element(left.begin(), left.end()) >= 0);
    RC_ASSERT(peak_bytes(holdings_of(ring.planned_windows(amounts)), step.ops.size()) <=
              problem.budget_bytes);
  }

  const FoldedStep step;
  const PlanProblem problem;
  PlanLimits limits;
  const WindowRing ring{step, problem, test::ordinals_of(problem.windows)};
};

RC_GTEST_PROP(ChangesProperty, AFilledWindowTakesFromOthersAndKeepsTheLimits, (uint64_t seed)) {
  const Limited of(seed, test::random_step(seed));
  const PlanProblem& problem = of.problem;
  const PlanLimits& limits = of.limits;
  const Changes changes(of.ring, limits);
  Amounts amounts(problem.windows.size());
  std::mt19937_64 random(seed);
  for (int i = 0; i < 20 && !problem.consumers.empty(); ++i) {
    const size_t window = random() % amounts.size();
    const auto consumer = static_cast<int32_t>(random() % problem.consumers.size());
    const int64_t there = problem.consumers[as_index(consumer)].blocks;
    changes.fill(window, consumer, amounts);
    const int64_t filled = std::min(
        {there, limits.most_bytes[window] / kBlockBytes, problem.budget_bytes / kBlockBytes});
    int64_t found = 0;
    for (const Share& share : amounts[window]) {
      if (share.consumer == consumer) found = share.blocks;
    }
    if (filled >= changes.least_blocks()) RC_ASSERT(found == filled);
    of.check(amounts);
  }
}

RC_GTEST_PROP(ChangesProperty, ChangesTriedTogetherKeepTheLimits, (uint64_t seed)) {
  const Limited of(seed, test::random_step(seed, 120));
  if (of.problem.windows.empty() || of.problem.consumers.empty()) return;
  const WindowRing& ring = of.ring;
  Changes changes(ring, of.limits);
  Amounts amounts(of.problem.windows.size());
  std::mt19937_64 random(seed);
  for (int run = 0; run < 30; ++run) {
    changes.begin(amounts);
    std::vector<uint8_t> in_run(amounts.size(), 0);
    for (int i = 0; i < 30; ++i) {
      const Move move{static_cast<Change>(random() % 9), random() % 3, random() % 5 == 0};
      const size_t window = random() % amounts.size();
      // Each window is changed once in a run.
      const size_t before = ring.previous(window), after = ring.next(window);
      if (in_run[before] + in_run[window] + in_run[after] > 0) continue;
      const Amounts untried = amounts;
      const auto blocks = static_cast<int64_t>(4 + random() % 400);
      if (changes.apply(move, window, blocks, amounts)) {
        in_run[before] = in_run[window] = in_run[after] = 1;
      } else {
        RC_ASSERT(amounts == untried);
      }
    }
    of.check(amounts);
  }
}

// Of a step of layers the changes at all of them lead on where the flow is not what is best.
TEST(PlanSearch, ChangesAllPeriodsAtOnce) {
  DeviceModel device = test::gpu_device();
  device.cache_budget_bytes = 16'000'000;
  const FoldedStep step = test::synthetic_step({.layers = 12});
  const SolvedProblem recorded = solve(build_problem(step, device, {}));
  const Decomposition optimum = decompose(step, recorded);
  const WindowRing ring(step, recorded.problem, optimum.windows);
  Referee referee(step, device, {});
  PlanSearch search(referee, ring,
                    {recorded.problem.budget_bytes, 0, 16 << 10, optimum.capacity_bytes});
  const SearchResult judged = search.judge(optimum.amounts);
  const SearchResult found = search.improve_periods(judged);
  EXPECT_LT(found.step_ns, judged.step_ns);
  EXPECT_NEAR(search.judge(found.amounts).step_ns, found.step_ns, 1e-6 * found.step_ns);
  EXPECT_LE(peak_bytes(holdings_of(ring.planned_windows(found.amounts)), step.ops.size()),
            recorded.problem.budget_bytes);
}

TEST(WindowRing, FindsTheWindowsAfterWhichLayersRepeat) {
  const auto period_of = [](const FoldedStep& step, const DeviceModel& device) {
    const PlanProblem problem = build_problem(step, device, {});
    return WindowRing(step, problem, test::ordinals_of(problem.windows)).period();
  };
  EXPECT_EQ(period_of(test::synthetic_step(), test::gpu_device()), 2U);  // two allreduces a layer
  EXPECT_EQ(period_of(test::random_step(1, 400), test::random_device(1)), 0U);
}

}  // namespace
}  // namespace preserve
