// SPDX-License-Identifier: Apache-2.0
// What a step is made of on its way from the baseline to the step with prefetches, and from the
// predicted step to its bounds (docs/metrics.md, "Why"). Internal to the reports library.
#pragma once

#include <vector>

#include "reports/model/report.h"

namespace preserve::report {

// Of the plan alone when nothing was measured. Bars that would be 0 are left out.
std::vector<WhyBar> explain(const Scenario& scenario);

}  // namespace preserve::report
