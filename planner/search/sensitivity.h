// SPDX-License-Identifier: Apache-2.0
// What holds a plan back: why each window fetches no more, by the referee, and which changes of the
// hardware or of the program would gain most, planned again for each.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/search/plan.h"

namespace preserve {

struct WhatIf {
  std::string change;
  int64_t gained_ns = 0;  // of the step, beyond what the plan saves
};

struct Sensitivity {
  std::vector<std::string> not_fuller;  // by window of the plan; empty: too many to try
  std::vector<WhatIf> changes;          // those that gain most first; empty: the step is too large
};

// Of the plan that make_schedule() chose with these options; nothing of one that fetches nothing.
Sensitivity sensitivity(const FoldedStep& step, const DeviceModel& device,
                        const PlanOptions& options, const Schedule& schedule);

// Where the windows are chosen automatically and some beside quiet operators are left out, since
// the device does not say how much prefetches slow these: adds to the schedule's reasons what such
// windows would gain, and to its candidates the plan that has them, where it gains 0.1 % of the
// step. Not of steps that are too large to plan again.
void offer_idle_windows(const FoldedStep& step, const DeviceModel& device,
                        const PlanOptions& options, Schedule& schedule);

}  // namespace preserve
