// SPDX-License-Identifier: Apache-2.0
// Corrects the device model by measurements of plans that were made with it. Pure;
// formulas and bounds in docs/planning.md, "Measured plans".
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/stats.h"
#include "db/step/folded_step.h"
#include "planner/schedule/device.h"
#include "planner/schedule/schedule.h"

namespace preserve {

// What a replay found of one plan: per step, mean over the ranks.
struct PlanFindings {
  PairedSpeedup speedup;
  double issued_bytes = 0;          // fetched before the windows ended
  double consumers_ns = 0;          // time of the plan's consumers in the baseline
  double saved_ns = 0;              // of the plan's consumers: baseline minus plan
  double collectives_added_ns = 0;  // of the collectives that carry its prefetches
  bool by_operator = true;          // else saved_ns is of the whole step, and what its collectives
                                    // cost is part of it
  // Added to the step by each of its windows when it has nothing to fetch; may be negative.
  std::optional<Interval> window_cost_ns{};
};

struct MeasuredPlan {
  Plan plan;
  IssueMethod issue;
  double planned_bandwidth_bytes_per_s = 0;  // that the windows' capacity assumes
  PlanFindings found;
};

// One measurement changes a number by at most a factor of kMostCorrection; changes below
// kLeastCorrection are noise.
inline constexpr double kMostCorrection = 4;
inline constexpr double kLeastCorrection = 0.02;

struct CorrectedDevice {
  DeviceModel device;
  std::vector<std::string>
      changes;  // "prefetch bandwidth of load: 8.0 GB/s instead of 10.0 GB/s, ..."
};

// Corrects the device's first method, with which `plans` were issued, the device's slow-down of
// collectives and its cost of a window: each number to the median over the plans with enough
// counted pairs. `step` is what they were planned for.
CorrectedDevice correct_device(const FoldedStep& step, const DeviceModel& device,
                               std::span<const MeasuredPlan* const> plans);

}  // namespace preserve
