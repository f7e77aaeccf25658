// SPDX-License-Identifier: Apache-2.0
// What the first lines of a report say: per schedule the best evidence there is (in the program
// before a replay before a prediction), the reason, and what would help most. Internal to the
// reports library.
#pragma once

#include <vector>

#include "reports/model/report.h"

namespace preserve::report {

// One per schedule, in the order of `scenarios`.
std::vector<Headline> headlines(const std::vector<Scenario>& scenarios);

}  // namespace preserve::report
