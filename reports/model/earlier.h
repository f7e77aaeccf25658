// SPDX-License-Identifier: Apache-2.0
// The report.json of an earlier run against this report: before and after a change of the engine,
// the driver or the plan. Operators meet by name over all layers and class, windows by scenario,
// ordinal and name. Internal to the reports library.
#pragma once

#include <filesystem>

#include "reports/model/report.h"

namespace preserve::report {

// input_error naming the file when it is no report of a version that is known.
Earlier compare_with(const std::filesystem::path& report_json, const Report& now);

}  // namespace preserve::report
