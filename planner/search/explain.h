// SPDX-License-Identifier: Apache-2.0
// preserve-tune --explain: the plan as a table that a person can follow, window by window.
#pragma once

#include <string>

#include "db/step/folded_step.h"
#include "planner/schedule/schedule.h"
#include "planner/search/sensitivity.h"

namespace preserve {

std::string explain(const FoldedStep& step, const Schedule& schedule,
                    const Sensitivity& sensitivity = {});

// What was measured of which plan, the chosen one first; empty when nothing was.
std::string measured_table(const Schedule& schedule);

}  // namespace preserve
