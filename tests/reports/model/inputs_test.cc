// SPDX-License-Identifier: Apache-2.0
#include "reports/model/inputs.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/output_file.h"
#include "reports/model/report.h"
#include "tests/reports/scenario_files.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::report {
namespace {

// The step that the first lines of a long one name is folded while the rest is read.
TEST(Inputs, AreOfTheStepThatTheWholeScheduleNames) {
  const test::TemporaryDirectory directory;
  const auto paths = test::write_two_scenarios(directory.path());
  std::string text = read_text_file(paths[1]);
  text.insert(1, fmt::format(R"("trace": {{"rank": 1}}, "pad": "{}",)", std::string(20'000, ' ')));
  OutputFile(paths[1], true).write(text);
  ASSERT_EQ(peek_planned_step(paths[1])->rank, 1);
  EXPECT_EQ(build_report(read_inputs({paths[0], paths[1]})).step->rank, 0);
}

}  // namespace
}  // namespace preserve::report
