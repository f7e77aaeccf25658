// SPDX-License-Identifier: Apache-2.0
// Which prefetch methods of a device a step is planned for.
#pragma once

#include <string>
#include <vector>

#include "planner/problem/problem.h"

namespace preserve {

// Planning a step of more operators once more takes seconds.
inline constexpr size_t kMostOpsToPlanAgain = 20'000;

// Full names, the device's first method ahead: that which the options name, else the first of each
// placement, since a device file lists the best first but what a placement is worth depends on the
// step; of steps above that size only the device's first. One empty name for a device without
// methods.
std::vector<std::string> methods_to_plan(const FoldedStep& step, const DeviceModel& device,
                                         const ProblemOptions& options);

}  // namespace preserve
