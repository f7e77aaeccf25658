// SPDX-License-Identifier: Apache-2.0
// The tables of a report as CSV.
#include "reports/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "reports/model/earlier.h"
#include "reports/render.h"
#include "tests/reports/two_scenarios.h"

namespace preserve::report {
namespace {

using ::testing::HasSubstr;

struct Csv : TwoScenarios {};

TEST_F(Csv, HasOneRowPerOperatorAndScenario) {
  const Report report = report_of(paths);
  const std::string csv = to_csv(report);
  EXPECT_EQ(count_of(csv, "\n"), 1 + 2 * report.step->ops.size());
  EXPECT_EQ(csv.rfind("scenario,ordinal,operator,kind,recorded_ns,predicted_ns,baseline_ns,"
                      "prefetch_ns,hot_ns\r\n",
                      0),
            0U);
}

TEST_F(Csv, OfEveryTableHasAsManyCellsAsColumns) {
  Report report = report_of(paths);
  Report before = report;
  before.scenarios[0].plan.windows[0].used_bytes /= 2;
  report.earlier = {compare_with(before, report)};
  for (const std::string_view table : csv_tables()) {
    std::istringstream lines(to_csv(report, table));
    std::string line, header;
    std::getline(lines, header);
    const auto columns = std::count(header.begin(), header.end(), ',');
    size_t rows = 0;
    while (std::getline(lines, line)) {
      EXPECT_EQ(std::count(line.begin(), line.end(), ','), columns) << table << ": " << line;
      ++rows;
    }
    EXPECT_GT(rows, 0U) << table;
  }
  EXPECT_THAT(to_csv(report, "arms"), HasSubstr("\"200 us stand-in link\",\"prefetch\",44,44,"));
  EXPECT_THAT(to_csv(report, "samples"), HasSubstr("\"warm-up\""));
  EXPECT_THAT(to_csv(report, "changes"), HasSubstr("\"step_ns\",,,"));
  EXPECT_THAT(to_csv(report, "changes"), HasSubstr("\"speedup\",\"200 us stand-in link\",1.1"));
  EXPECT_EQ(count_of(to_csv(report, "window_changes"), "\n"), 2U) << "the one that differs";
}

}  // namespace
}  // namespace preserve::report
