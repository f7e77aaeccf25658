// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "common/units.h"
#include "reports/grid/report.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr size_t kComparedCells = 20;  // a comment is not the place for more

std::string heat_table(const HeatMap& map) {
  Table table{"", {number("batch")}};
  for (const auto& [ranks, contexts] : map.columns) {
    for (const int64_t context : contexts) {
      table.heads.push_back(number(fmt::format("TP {}, {}", ranks, tokens_text(context))));
    }
  }
  for (size_t row = 0; row < map.batches.size(); ++row) {
    std::vector<Cell>& cells = table.rows.emplace_back();
    cells.emplace_back(fmt::format("{}", map.batches[row]));
    for (const GridCell* cell : map.rows[row]) {
      cells.emplace_back(cell == nullptr ? "" : heat_mark(*cell));
    }
  }
  return fmt::format("{}, {}:\n\n{}", markdown_code(map.model), markdown_code(map.dtype),
                     markdown_table(table));
}

std::string published(const GridReport& report) {
  Table table{"", {"cell", number("published"), number("plan measured here")}};
  for (const GridCell& cell : report.cells) {
    const auto value = published_speedup(cell.key);
    if (!value) continue;
    const bool done = cell.status == CellStatus::done;
    table.rows.push_back({name_cell(name_of(cell.key)), format_ratio(*value),
                          done ? ratio_text(cell.speedup) : heat_mark(cell)});
  }
  if (table.rows.empty()) return "";
  return fmt::format("{}{}.\n\n", markdown_table(table), markdown_prose(kPublishedSource));
}

}  // namespace

std::string to_markdown(const GridReport& report) {
  const GridSummary summary = summarise(report.cells);
  std::string out = markdown_head("grid report", report);
  if (!report.warnings.empty()) out += "\n";
  out += markdown_table(finding_table(summary));
  out +=
      "Speed-up of the chosen plan; =: nothing is done, N/A: cannot be run, -: not measured "
      "yet.\n\n";
  for (const HeatMap& map : heat_maps(report.cells)) out += heat_table(map);
  for (const GridComparison& earlier : report.earlier) {
    out += markdown_table(comparison_table(earlier), kComparedCells);
  }
  out += published(report);
  for (const auto& [name, value] : report.facts) {
    out += fmt::format("- {}: {}\n", name, markdown_code(value));
  }
  return out;
}

}  // namespace preserve::report
