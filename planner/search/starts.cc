// SPDX-License-Identifier: Apache-2.0
#include "planner/search/starts.h"

#include <algorithm>
#include <utility>

#include "common/as_index.h"
#include "common/error.h"

namespace preserve {

namespace {

constexpr int kMostReplans = 3;
constexpr size_t kMostOpsForReplans = 20'000;  // of larger steps one

AssumedPlan hits_of(const FoldedStep& step, const PlanProblem& problem, const Amounts& amounts) {
  AssumedPlan assumed;
  assumed.hit_bytes.assign(step.ops.size(), 0);
  for (const WindowShares& shares : amounts) {
    for (const Share& share : shares) {
      const int32_t ordinal = problem.consumers[as_index(share.consumer)].ordinal;
      assumed.hit_bytes[as_index(ordinal)] += share.blocks * kBlockBytes;
    }
  }
  return assumed;
}

}  // namespace

std::vector<Decomposition> flow_plans(const FoldedStep& step, const DeviceModel& device,
                                      const ProblemOptions& options,
                                      const SolvedProblem& recorded) {
  std::vector<Decomposition> plans{decompose(step, recorded)};
  const int replans = step.ops.size() > kMostOpsForReplans ? 1 : kMostReplans;
  for (int i = 0; i < replans; ++i) {
    const AssumedPlan assumed = hits_of(step, recorded.problem, plans.back().amounts);
    const SolvedProblem given = solve(build_problem_given(step, device, options, assumed));
    if (given.problem.consumers.size() != recorded.problem.consumers.size()) {
      throw internal_error("given a plan, a step has other consumers");
    }
    Decomposition plan = decompose(step, given);
    if (fetch_alike(plan, plans.back())) break;
    plans.push_back(std::move(plan));
  }
  return plans;
}

std::vector<int32_t> windows_of(const std::vector<Decomposition>& plans) {
  std::vector<int32_t> windows;
  for (const Decomposition& plan : plans) {
    windows.insert(windows.end(), plan.windows.begin(), plan.windows.end());
  }
  std::sort(windows.begin(), windows.end());
  windows.erase(std::unique(windows.begin(), windows.end()), windows.end());
  return windows;
}

}  // namespace preserve
