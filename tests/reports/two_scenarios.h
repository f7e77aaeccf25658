// SPDX-License-Identifier: Apache-2.0
// What the tests of reports have in common.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/output_file.h"
#include "planner/schedule/json_document.h"
#include "reports/model/report.h"
#include "tests/reports/scenario_files.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
extern const std::string_view kReportSchema, kGridReportSchema, kExploreReportSchema;
}

namespace preserve::report {

inline Report report_of(const std::vector<std::filesystem::path>& paths) {
  return build_report(read_inputs(paths));
}
// EXPECT_THAT(reading({trace, schedule}), fails_with("another recording"));
inline auto reading(std::vector<std::filesystem::path> paths) {
  return [paths = std::move(paths)] { report_of(paths); };
}

struct TwoScenarios : testing::Test {
  // Writes the replay of the first schedule anew; the report of that schedule.
  Report report_of_replay(const test::ReplaySpec& spec,
                          const std::function<void(TraceDb&)>& tweak = {}) const {
    test::write_replay(paths[2], paths[1], spec, tweak);
    return report_of({paths[0], paths[1], paths[2]});
  }

  const test::TemporaryDirectory directory;
  const std::vector<std::filesystem::path> paths = test::write_two_scenarios(directory.path());
};

// What a shipped schema says against a report; empty when nothing.
inline std::string schema_errors(const std::string& text, std::string_view schema = kReportSchema) {
  try {
    validate_json(nlohmann::json::parse(text), schema, "report.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// That every element which a page opens is closed.
inline void expect_balanced(const std::string& html, std::initializer_list<const char*> tags) {
  for (const char* tag : tags) {
    EXPECT_EQ(count_of(html, fmt::format("<{} ", tag)) + count_of(html, fmt::format("<{}>", tag)),
              count_of(html, fmt::format("</{}>", tag)))
        << tag;
  }
}

// What chromium makes of a page, with what it has to say of it; without output where there is none.
inline test::Run in_chromium(const std::string& html) {
  const test::TemporaryDirectory directory;
  OutputFile(directory / "page.html", false).write(html);
  return test::run_program(
      {"chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
       "--no-first-run", "--disable-background-networking", "--disable-component-update",
       "--disable-sync", "--disable-dev-shm-usage", "--enable-logging=stderr",
       fmt::format("--user-data-dir={}", (directory / "profile").string()), "--dump-dom",
       fmt::format("file://{}", (directory / "page.html").string())});
}

}  // namespace preserve::report
