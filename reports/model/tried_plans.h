// SPDX-License-Identifier: Apache-2.0
// The plans that preserve-tune --measure replayed before it chose, as a schedule has them.
#pragma once

#include <vector>

#include "planner/schedule/schedule.h"
#include "reports/model/report.h"

namespace preserve::report {

// The chosen one first; empty for a schedule that was not measured.
std::vector<TriedPlan> tried_plans(const Schedule& schedule);

}  // namespace preserve::report
