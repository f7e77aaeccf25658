// SPDX-License-Identifier: Apache-2.0
#include "reports/model/parts.h"

#include <fmt/format.h>

#include "common/stats.h"
#include "common/units.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

void add(const Schedule& schedule, const Plan& plan, bool chosen, std::vector<TriedPlan>& out) {
  if (!plan.measured) return;
  const PlanMeasurement& measured = *plan.measured;
  TriedPlan tried;
  tried.strategy = to_string(plan.strategy);
  tried.issue = clean(describe(method_of(schedule, plan)));
  tried.predicted_speedup = plan.speedup;
  tried.pairs = measured.pairs;
  tried.chosen = chosen;
  if (measured.low && measured.high) {
    tried.speedup.value = Interval{*measured.low, measured.speedup, *measured.high};
  } else {
    tried.speedup = Known<Interval>::unknown(fmt::format("fewer than {} pairs", kFewestPairs));
  }
  for (const PlannedWindow& window : plan.windows) {
    tried.prefetched_bytes =
        checked_add(tried.prefetched_bytes, window.used_bytes, "planned bytes");
  }
  out.push_back(std::move(tried));
}

}  // namespace

std::vector<TriedPlan> tried_plans(const Schedule& schedule) {
  std::vector<TriedPlan> out;
  add(schedule, schedule.plan, true, out);
  for (const Plan& plan : schedule.candidates) add(schedule, plan, false, out);
  return out;
}

}  // namespace preserve::report
