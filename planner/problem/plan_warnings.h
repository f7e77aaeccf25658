// SPDX-License-Identifier: Apache-2.0
// What the reader of a schedule has to know about the step, the device file and the model.
#pragma once

#include <string>
#include <vector>

#include "planner/problem/problem.h"
#include "planner/schedule/schedule.h"

namespace preserve {

// Sentences, those of the step itself first. `schedule` has its plan and its bounds.
std::vector<std::string> plan_warnings(const FoldedStep& step, const DeviceModel& device,
                                       const ProblemOptions& options, const ProblemNotes& notes,
                                       const Schedule& schedule);

}  // namespace preserve
