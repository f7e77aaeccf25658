// SPDX-License-Identifier: Apache-2.0
// schedule.json and a replay.db of it -> one Scenario: what was planned, what was measured, how
// well they agree. Internal to the reports library.
#pragma once

#include <string>
#include <vector>

#include "reports/model/inputs.h"
#include "reports/model/report.h"

namespace preserve::report {

// `step` is the folded step the schedule was planned for; `replay` is null when it was not
// replayed. Adds what is odd to `warnings`.
Scenario build_scenario(const ScheduleInput& input, const ReplayInput* replay, const Step& step,
                        std::vector<Warning>& warnings);

}  // namespace preserve::report
