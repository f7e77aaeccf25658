// SPDX-License-Identifier: Apache-2.0
// The pieces that every section of the page is made of: tables, names, numbers. What goes into them
// as text is escaped here, in chart.cc or by escape_html(). Internal to the reports library.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/text.h"
#include "reports/model/report.h"
#include "reports/table.h"

namespace preserve::report {

// A table whose cells are finished HTML (from escape_html() and the functions below).
class HtmlTable {
 public:
  // A long table scrolls in a box of its own, and prints in full.
  HtmlTable(std::string_view caption, std::vector<Head> heads);
  // The first cell is the row's header; `id` is where links to the row lead.
  void row(const std::vector<std::string>& cells, std::string_view id = {});
  std::string finish();

 private:
  std::vector<Head> heads_;
  std::string out_;
  size_t rows_ = 0;
};

std::string html_name(std::string_view name);  // monospaced, cut in the middle, whole as hover text
std::string html_percent(double share);
std::string html_signed_time(int64_t dur_ns);  // "+1.20 us", with a minus that is as wide
std::string html_unknown(std::string_view reason);
std::string html_how(std::string_view two_sentences);
std::string html_folded(std::string_view summary, std::string_view html);  // closed until asked for
std::string html_section(std::string_view id, std::string_view title);
std::string html_card(std::string_view css_class, std::string_view sentence);
// Warnings that say nothing of their source or weight.
std::string html_warning_list(const std::vector<std::string>& warnings);
// "12 more windows are in the JSON report."; empty when all of `rows` are `shown`.
std::string html_more(size_t rows, size_t shown, std::string_view nouns);

// A grid or an exploration against another: the table of the cells that both have, and how many
// are `only` there and here ("done only").
template <typename Comparison>
std::string html_comparison(const Comparison& comparison, const char* only) {
  const Table table = comparison_table(comparison);
  std::string out = table.rows.empty() ? "" : html_table(table);
  out += html_more(comparison.cells.size(), table.rows.size(), "cells");
  if (comparison.only_before + comparison.only_after == 0) return out;
  return out + fmt::format("<p>{} {} there, {} only here.</p>\n",
                           count_of(comparison.only_before, "cell"), only, comparison.only_after);
}

// What the page of a grid or an exploration begins with, and its section about the earlier ones.
template <typename Report>
std::string html_head(const char* title, const char* css_class, const Report& report) {
  std::string out =
      fmt::format("<h1>Preserve {}</h1>\n", title) + html_card(css_class, report.sentence);
  for (const auto& earlier : report.earlier) out += html_card("plain", earlier.sentence);
  return out + html_warning_list(report.warnings);
}
template <typename Report>
std::string html_against_earlier(const Report& report, const char* title, const char* only,
                                 const char* how) {
  if (report.earlier.empty()) return "";
  std::string out = html_section("earlier", title);
  for (const auto& earlier : report.earlier) out += html_comparison(earlier, only);
  return out + html_how(how);
}

// docs/metrics.md, and a link from a section to its chapter of it (definitions.cc).
std::string html_definitions();
std::string html_definition_link(std::string_view section);

// The whole page with the definitions at its end; `title` is ours. `json` is embedded as data.
std::string html_page(std::string_view title, std::string_view body, std::string_view json);

// Of a step of more than `most` operators what the page embeds: the ends of the prefetches that
// save most, up to half of them, then the longest operators; ordinals stay. report.step is known.
Report thinned(Report report, size_t most);

// The verdict cards; the warnings, serious ones first (headline.cc).
std::string html_headlines(const Report& report);
std::string html_warnings(const Report& report);

// Against an earlier run; the ranks against one another (earlier.cc). Empty where there is nothing.
std::string html_earlier(const Report& report);
std::string html_ranks(const TimeUse& use);

// Sections about one scenario, `index` its place in the report (scenario.cc, why.cc).
inline constexpr size_t kWindowRows = 400;  // more are in report.json
std::string html_measured(const Scenario& scenario);
std::string html_plan(const Scenario& scenario, size_t index);
// `with_bounds`: also what the schedule's bounds leave, the same for every replay of it.
std::string html_why(const Scenario& scenario, size_t index, bool with_bounds);
std::string window_id(size_t scenario, int32_t ordinal);  // of its row in html_plan()

}  // namespace preserve::report
