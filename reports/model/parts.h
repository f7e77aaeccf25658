// SPDX-License-Identifier: Apache-2.0
// What a Report is made of, one file each. Internal to the reports library.
#pragma once

#include <vector>

#include "db/trace_db.h"
#include "planner/schedule/schedule.h"
#include "reports/model/inputs.h"
#include "reports/model/report.h"

namespace preserve::report {

// What a recording of hardware counters says of each operator: bytes per kernel, and next to them
// the bytes that the recording knows by name. Operators of one name in ranges of one name, layer
// numbers apart; most bytes first. Empty when nothing was counted.
std::vector<CounterTotal> summarise_counters(const TraceDb& db);

// schedule.json and a replay.db of it: what was planned, what was measured, how well they agree.
// `step` is the folded step the schedule was planned for; `replay` is null when it was not
// replayed. Adds what is odd to `warnings`.
Scenario build_scenario(const ScheduleInput& input, const ReplayInput* replay, const Step& step,
                        std::vector<Warning>& warnings);

// The plans that preserve-tune --measure replayed before it chose, as a schedule has them: the
// chosen one first; empty for a schedule that was not measured.
std::vector<TriedPlan> tried_plans(const Schedule& schedule);

// What a step is made of on its way from the baseline to the step with prefetches, and from the
// predicted step to its bounds (docs/metrics.md, "Why"). Of the plan alone when nothing was
// measured. Bars that would be 0 are left out.
std::vector<WhyBar> explain(const Scenario& scenario);

// What the first lines of a report say: per schedule the best evidence there is (in the program
// before a replay before a prediction), the reason, and what would help most. One per schedule, in
// the order of `scenarios`.
std::vector<Headline> headlines(const std::vector<Scenario>& scenarios);

}  // namespace preserve::report
