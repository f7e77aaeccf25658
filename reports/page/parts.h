// SPDX-License-Identifier: Apache-2.0
// The pieces that every section of the page is made of: tables, names, numbers. All escaping of
// HTML happens here and in chart.cc. Internal to the reports library.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "reports/model/report.h"
#include "reports/table.h"

namespace preserve::report {

// A table whose cells are finished HTML (from the functions below).
class HtmlTable {
 public:
  // A long table scrolls in a box of its own, and prints in full.
  HtmlTable(std::string_view caption, std::vector<Head> heads);
  void row(const std::vector<std::string>& cells);  // the first cell is the row's header
  std::string finish();

 private:
  std::vector<Head> heads_;
  std::string out_;
};

std::string html_text(std::string_view text);
std::string html_name(std::string_view name);  // monospaced, cut in the middle, whole as hover text
std::string html_time(int64_t dur_ns);
std::string html_size(int64_t size_bytes);
std::string html_percent(double share);
std::string html_unknown(std::string_view reason);
std::string html_how(std::string_view two_sentences);
std::string html_section(std::string_view id, std::string_view title);

// The whole page; `title` is ours. `json` is embedded as data.
std::string html_page(std::string_view title, std::string_view body, std::string_view json);

// Sections about one scenario (html_scenario.cc).
std::string html_measured(const Scenario& scenario);
std::string html_plan(const Scenario& scenario);

}  // namespace preserve::report
