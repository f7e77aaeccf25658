// SPDX-License-Identifier: Apache-2.0
#include "reports/table.h"

#include <algorithm>
#include <cctype>

#include "common/units.h"
#include "reports/page/parts.h"

namespace preserve::report {
namespace {

std::string html_cell(const Cell& cell) {
  switch (cell.style) {
    case Cell::Style::plain:
      return escape_html(cell.text);
    case Cell::Style::name:
      return html_name(cell.text);
    case Cell::Style::strong:
      return fmt::format("<span class=\"strong\">{}</span>", escape_html(cell.text));
    case Cell::Style::unknown:
      return fmt::format("<span class=\"unknown\">{}</span>", escape_html(cell.text));
  }
  return "";
}

std::string markdown_cell(const Cell& cell) {
  if (cell.text.empty()) return "";
  switch (cell.style) {
    case Cell::Style::plain:
    case Cell::Style::unknown:
      return markdown_prose(cell.text);
    case Cell::Style::name:
      return markdown_code(cell.text);
    case Cell::Style::strong:
      return fmt::format("**{}**", markdown_prose(cell.text));
  }
  return "";
}

// "Rank" -> "rank", but "DRAM read" and "TP 4" stay.
std::string markdown_title(std::string title) {
  const auto lower = [](char c) { return std::islower(static_cast<unsigned char>(c)) != 0; };
  if (title.size() > 1 && lower(title[1])) {
    title[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(title[0])));
  }
  return markdown_prose(title);
}

Cell time_of(const Arm* arm) {
  if (arm == nullptr || !arm->step_ns) return unknown_cell("unknown");
  return format_duration(arm->step_ns->estimate);
}

Cell speedup_of(const Known<Interval>& speedup) {
  return speedup ? Cell(speedup_text(*speedup)) : unknown_cell("unknown: " + speedup.reason);
}

}  // namespace

std::string html_table(const Table& table) {
  HtmlTable html(table.caption, table.heads);
  for (const std::vector<Cell>& row : table.rows) {
    std::vector<std::string> cells;
    std::ranges::transform(row, std::back_inserter(cells), html_cell);
    html.row(cells);
  }
  return html.finish();
}

std::string markdown_table(const Table& table, size_t most_rows) {
  std::string out = "|", line = "|";
  for (const Head& head : table.heads) {
    out += fmt::format(" {} |", markdown_title(head.title));
    line += head.kind == Column::number ? "---:|" : "---|";
  }
  out += "\n" + line + "\n";
  for (size_t i = 0; i < std::min(most_rows, table.rows.size()); ++i) {
    out += "|";
    for (const Cell& cell : table.rows[i]) out += fmt::format(" {} |", markdown_cell(cell));
    out += "\n";
  }
  return out + "\n";
}

const Arm* arm_named(const Measured& measured, std::string_view name) {
  const auto found = std::ranges::find(measured.arms, name, &Arm::name);
  return found == measured.arms.end() ? nullptr : &*found;
}

std::string speedup_text(const Interval& speedup) {
  return fmt::format("{} [{}, {}]", format_ratio(speedup.estimate), format_ratio(speedup.low),
                     format_ratio(speedup.high));
}

std::string signed_percent(double value) {
  return fmt::format("{:+.1f} %", value * 100);
}

Table comparison_table(const std::vector<Scenario>& scenarios) {
  Table table{"Baseline against prefetch, all scenarios",
              {"Collectives", "Verdict", number("Baseline"), number("Prefetch"),
               number("Measured speed-up"), number("Predicted"), number("Prediction error"),
               number("Fidelity")}};
  for (const Scenario& s : scenarios) {
    const std::string predicted = format_ratio(s.plan.speedup);
    if (!s.measured) {
      table.rows.push_back(
          {s.label, "not measured", format_duration(s.plan.baseline_step_ns) + " (predicted)",
           format_duration(s.plan.prefetch_step_ns) + " (predicted)", "", predicted, "", ""});
      continue;
    }
    const Measured& m = *s.measured;
    table.rows.push_back(
        {s.label, strong_cell(m.verdict.empty() ? "none" : m.verdict),
         time_of(arm_named(m, "baseline")), time_of(arm_named(m, "prefetch")),
         speedup_of(m.speedup), predicted,
         m.prediction_error ? Cell(signed_percent(*m.prediction_error))
                            : unknown_cell("unknown: " + m.prediction_error.reason),
         m.fidelity ? Cell(format_ratio(m.fidelity->step)) : unknown_cell("unknown")});
  }
  return table;
}

Table counter_table(const std::vector<CounterTotal>& totals) {
  Table table{"Bytes per kernel, mean over its runs",
              {"Kernel", "In range", number("Count"), number("DRAM read"), number("DRAM written"),
               number("L2 read"), number("L2 written"), number("Named bytes read")}};
  for (const CounterTotal& total : totals) {
    std::vector<Cell> row{name_cell(total.name), name_cell(total.range), grouped(total.count)};
    for (const auto& bytes : total.metrics) {
      row.push_back(bytes ? Cell(format_size(bytes->mean)) : unknown_cell("unknown"));
    }
    row.push_back(total.named_read_bytes ? Cell(format_size(*total.named_read_bytes))
                                         : unknown_cell("unknown"));
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace preserve::report
