// SPDX-License-Identifier: Apache-2.0
// The tables of a report as CSV, one a file: RFC 4180, UTF-8, one header line, an empty cell where
// a value is unknown. Columns are only ever added at the end (docs/metrics.md, "report.csv").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "reports/model/report.h"

namespace preserve::report {

inline constexpr std::string_view kOperatorsCsv = "operators";
inline constexpr std::string_view kChangesCsv = "changes";  // also of grids and explorations
std::vector<std::string_view> csv_tables();  // every name that to_csv() takes
std::string to_csv(const Report& report, std::string_view table);

}  // namespace preserve::report
