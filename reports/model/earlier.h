// SPDX-License-Identifier: Apache-2.0
// An earlier run against this report: before and after a change of the engine, driver or plan.
// Operators meet by name without layer numbers, windows by scenario and ordinal. A difference is
// only called one when the intervals of the two runs do not overlap.
#pragma once

#include <filesystem>

#include "reports/model/report.h"

namespace preserve::report {

Earlier compare_with(const Report& before, const Report& now);
// With a report.json. Throws input_error for a file that is none, or whose values are out of range.
Earlier compare_with(const std::filesystem::path& report_json, const Report& now);

}  // namespace preserve::report
