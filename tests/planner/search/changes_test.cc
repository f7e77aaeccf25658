// SPDX-License-Identifier: Apache-2.0
// Changes of a plan keep to what the cache, the windows and the tensors allow.
#include "planner/search/changes.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <random>

#include "common/as_index.h"
#include "planner/search/decompose.h"
#include "tests/planner/synthetic_step.h"
#include "tests/support/devices.h"

namespace preserve {
namespace {

RC_GTEST_PROP(ChangesProperty, AFilledWindowTakesFromOthersAndKeepsTheLimits, (uint64_t seed)) {
  const FoldedStep step = test::random_step(seed);
  const DeviceModel device = test::random_device(seed);
  const PlanProblem problem = build_problem(step, device, {});
  std::vector<int32_t> ordinals;
  PlanLimits limits{problem.budget_bytes, 0, 4 * kBlockBytes, {}};
  for (const Window& window : problem.windows) {
    ordinals.push_back(window.ordinal);
    limits.most_bytes.push_back(window.capacity_bytes);
  }
  const WindowRing ring(step, problem, ordinals);
  const Changes changes(ring, limits);
  Amounts amounts(ordinals.size());
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
    std::vector<int64_t> left;
    for (const PlanConsumer& of : problem.consumers) left.push_back(of.blocks);
    for (size_t w = 0; w < amounts.size(); ++w) {
      RC_ASSERT(sum(amounts[w]) <= limits.most_bytes[w] / kBlockBytes);
      for (const Share& share : amounts[w]) {
        RC_ASSERT(share.blocks > 0);
        left[as_index(share.consumer)] -= share.blocks;
      }
    }
    RC_ASSERT(*std::min_element(left.begin(), left.end()) >= 0);
    RC_ASSERT(peak_bytes(holdings_of(ring.planned_windows(amounts)), step.ops.size()) <=
              problem.budget_bytes);
  }
}

TEST(WindowRing, FindsTheWindowsAfterWhichLayersRepeat) {
  const auto period_of = [](const FoldedStep& step, const DeviceModel& device) {
    const PlanProblem problem = build_problem(step, device, {});
    std::vector<int32_t> windows;
    for (const Window& window : problem.windows) windows.push_back(window.ordinal);
    return WindowRing(step, problem, windows).period();
  };
  EXPECT_EQ(period_of(test::synthetic_step(), test::gpu_device()), 2U);  // two allreduces a layer
  EXPECT_EQ(period_of(test::random_step(1, 400), test::random_device(1)), 0U);
}

}  // namespace
}  // namespace preserve
