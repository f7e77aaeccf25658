// SPDX-License-Identifier: Apache-2.0
// What a replay.db says about the plans of the schedule that was replayed.
#pragma once

#include "db/trace_db.h"
#include "planner/measure/closed_loop.h"
#include "planner/schedule/schedule.h"

namespace preserve {

// Of schedule.plan and all candidates (preserve-replay --candidates). input_error naming the file
// when an arm or an operator is missing.
ReplayFindings read_findings(const TraceDb& replay, const Schedule& schedule);

}  // namespace preserve
