// SPDX-License-Identifier: Apache-2.0
// The optimum of the flow as a plan, quickly: of the recorded step and, a few times, of the step in
// which the plan before hits, each cut to what the referee sees arrive in time; the one with the
// shortest step. It is where preserve-tune begins; the search after it, which takes tens of
// milliseconds and gains where windows are few and long, is left out.
#pragma once

#include <vector>

#include "planner/search/plan.h"

namespace preserve {

std::vector<PlannedWindow> flow_windows(const FoldedStep& step, const DeviceModel& device,
                                        const PlanOptions& options, const SolvedProblem& recorded,
                                        Referee& referee);

}  // namespace preserve
