// SPDX-License-Identifier: Apache-2.0
// A table of a report, filled once and printed in every format that shows it. Cells hold clean text
// (text.h); each printer escapes for its format.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reports/model/report.h"
#include "reports/text.h"

namespace preserve::report {

enum class Column { text, number, wide };

struct Head {
  std::string title;  // HTML as it is; Markdown begins words in lower case
  Column kind = Column::text;

  Head(const char* text) : title(text) {}
  Head(std::string text, Column of) : title(std::move(text)), kind(of) {}
};
inline Head number(std::string title) {
  return {std::move(title), Column::number};
}
inline Head wide(std::string title) {
  return {std::move(title), Column::wide};
}

struct Cell {
  enum class Style { plain, name, strong, unknown };
  std::string text;
  Style style = Style::plain;

  Cell(std::string plain) : text(std::move(plain)) {}
  Cell(const char* plain) : text(plain) {}
  Cell(std::string value, Style of) : text(std::move(value)), style(of) {}
};
inline Cell name_cell(std::string text) {
  return {std::move(text), Cell::Style::name};
}
inline Cell strong_cell(std::string text) {
  return {std::move(text), Cell::Style::strong};
}
inline Cell unknown_cell(std::string text) {
  return {std::move(text), Cell::Style::unknown};
}

struct Table {
  std::string caption;
  std::vector<Head> heads;
  std::vector<std::vector<Cell>> rows{};  // the first cell is the row's header
};

std::string html_table(const Table& table);
// Without the caption, an empty line at the end; at most so many rows.
std::string markdown_table(const Table& table, size_t most_rows = SIZE_MAX);

// What a grid or an exploration begins with in Markdown.
template <typename Report>
std::string markdown_head(const char* title, const Report& report) {
  std::string out =
      fmt::format("### Preserve {}\n\n**{}**\n\n", title, markdown_prose(report.sentence));
  for (const auto& earlier : report.earlier) {
    out += fmt::format("{}\n\n", markdown_prose(earlier.sentence));
  }
  for (const std::string& warning : report.warnings) {
    out += fmt::format("- {}\n", markdown_prose(warning));
  }
  return out;
}

// What both pages show.
Table comparison_table(const std::vector<Scenario>& scenarios);
Table counter_table(const std::vector<CounterTotal>& totals);

const Arm* arm_named(const Measured& measured, std::string_view name);  // null: no such arm
std::string signed_percent(double value);                               // "+1.2 %"
std::string speedup_text(const Interval& speedup);                      // "1.043x [1.031x, 1.055x]"

}  // namespace preserve::report
