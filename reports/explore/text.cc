// SPDX-License-Identifier: Apache-2.0
// JSON, CSV and Markdown of an exploration.

#include <cmath>
#include <variant>

#include "common/units.h"
#include "reports/explore/report.h"
#include "reports/json_parts.h"
#include "reports/table.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr size_t kMarkdownMaps = 6, kMarkdownRows = 20;  // a comment is not the place for more

ordered_json json_of(const SqlValue& value) {
  return std::visit(
      [](const auto& held) -> ordered_json {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, int64_t>) {
          return held;
        } else if constexpr (std::is_same_v<Held, double>) {
          return std::isfinite(held) ? ordered_json(held) : ordered_json(nullptr);
        } else if constexpr (std::is_same_v<Held, std::string>) {
          return clean(held);
        } else {
          return nullptr;
        }
      },
      value);
}

std::string csv_of(const ordered_json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? csv_text(value.get<std::string>()) : value.dump();
}

std::string heat_table(const ExploreMap& map) {
  Table table{"", {number(map.row_key.empty() ? "cell" : map.row_key)}};
  for (const std::string& column : map.columns) {
    table.heads.push_back(number(fmt::format("{} {}", map.column_key, column)));
  }
  for (size_t row = 0; row < map.rows.size(); ++row) {
    std::vector<Cell>& cells = table.rows.emplace_back();
    cells.emplace_back(map.rows[row]);
    for (const ExploreCell* cell : map.cells[row]) {
      cells.emplace_back(cell_mark(cell, cell && cell->done() ? flow_speedup(*cell) : 1));
    }
  }
  return (map.title.empty() ? "" : markdown_prose(map.title) + ":\n\n") + markdown_table(table);
}

ordered_json write_change(const ExploreChange& cell) {
  return {{"name", cell.name},
          {"baseline_before_ns", cell.baseline_before_ns},
          {"baseline_after_ns", cell.baseline_after_ns},
          {"flow_before_ns", cell.flow_before_ns},
          {"flow_after_ns", cell.flow_after_ns}};
}

ordered_json write_comparison(const ExploreComparison& comparison) {
  return {{"path", comparison.path},
          {"sentence", comparison.sentence},
          {"only_before", comparison.only_before},
          {"only_after", comparison.only_after},
          {"cells", array_of(comparison.cells, write_change)}};
}

ordered_json write_axis(const ExploreAxis& axis) {
  return {{"key", clean(axis.key)},
          {"values", array_of(axis.values, [](const std::string& word) { return clean(word); })}};
}

ordered_json write_sheet(const ExploreSheet& sheet) {
  return {{"title", clean(sheet.title)},
          {"first_id", sheet.first_id},
          {"cells", sheet.cells},
          {"axes", array_of(sheet.axes, write_axis)}};
}

ordered_json write_cell(const ExploreCell& cell) {
  ordered_json row = ordered_json::object();
  const std::vector<SqlValue> values = explore_values(cell);
  for (size_t i = 0; i < values.size(); ++i) row[explore_columns()[i]] = json_of(values[i]);
  return row;
}

}  // namespace

std::string to_json(const ExploreReport& report) {
  ordered_json json =
      report_of("preserve/explore-report", kExploreReportVersion, report.input, report.complete);
  json["figure"] = report.figure;
  json["sentence"] = report.sentence;
  json["warnings"] = report.warnings;
  json["sheets"] = array_of(report.sheets, write_sheet);
  json["cells"] = array_of(report.cells, write_cell);
  if (!report.earlier.empty()) json["earlier"] = array_of(report.earlier, write_comparison);
  return json.dump(1) + "\n";
}

std::string to_csv(const ExploreReport& report) {
  std::string out;
  for (const std::string& column : explore_columns()) out += (out.empty() ? "" : ",") + column;
  out += "\r\n";
  for (const ExploreCell& cell : report.cells) {
    std::string_view comma;
    for (const SqlValue& value : explore_values(cell)) {
      out += comma;
      out += csv_of(json_of(value));
      comma = ",";
    }
    out += "\r\n";
  }
  return out;
}

std::string changes_csv(const ExploreReport& report) {
  std::string out =
      "earlier,cell,baseline_before_ns,baseline_after_ns,flow_before_ns,flow_after_ns\r\n";
  for (const ExploreComparison& earlier : report.earlier) {
    for (const ExploreChange& cell : earlier.cells) {
      out += fmt::format("{},{},{},{},{},{}\r\n", csv_text(earlier.path), csv_text(cell.name),
                         cell.baseline_before_ns, cell.baseline_after_ns, cell.flow_before_ns,
                         cell.flow_after_ns);
    }
  }
  return out;
}

std::string to_markdown(const ExploreReport& report) {
  std::string out = markdown_head("exploration", report);
  out += "\nSpeed-up of strategy flow, predicted; =: nothing is done, N/A: cannot be run.\n\n";
  for (const ExploreMap& map : explore_maps(report, kMarkdownMaps)) out += heat_table(map);
  for (const ExploreComparison& earlier : report.earlier) {
    if (!earlier.cells.empty()) out += markdown_table(comparison_table(earlier), kMarkdownRows);
  }
  Table best{"",
             {"best cache", number("without prefetching"), number("with flow"), number("gain")}};
  for (const CapacityCurve& curve : capacity_curves(report)) {
    const ExploreCell& without = *curve.cells[curve.best_baseline];
    const ExploreCell& with = *curve.cells[curve.best_flow];
    best.rows.push_back({name_cell(curve.name), format_size(without.cache_bytes),
                         format_size(with.cache_bytes),
                         format_ratio(density(curve, with, with.flow_step_ns) /
                                      density(curve, without, without.baseline_step_ns))});
  }
  return best.rows.empty() ? out : out + markdown_table(best, kMarkdownRows);
}

}  // namespace preserve::report
