// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "common/units.h"
#include "reports/grid/report.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

void add_requirements(std::string& out, const GridSummary& summary) {
  out += "| required | met | found |\n|---|---|---|\n";
  for (const Requirement& requirement : requirements(summary)) {
    const char* met = !requirement.met ? "not measured" : *requirement.met ? "yes" : "**no**";
    out += fmt::format("| {} | {} | {} |\n", markdown_prose(requirement.text), met,
                       markdown_prose(requirement.finding));
  }
  out += "\n";
}

void add_heat_map(std::string& out, const HeatMap& map) {
  out += fmt::format("{}, {}:\n\n| batch |", markdown_code(map.model), markdown_code(map.dtype));
  std::string line = "\n|---:|";
  for (const auto& [ranks, contexts] : map.columns) {
    for (const int64_t context : contexts) {
      out += fmt::format(" TP {}, {} |", ranks, tokens_text(context));
      line += "---:|";
    }
  }
  out += line + "\n";
  for (size_t row = 0; row < map.batches.size(); ++row) {
    out += fmt::format("| {} |", map.batches[row]);
    for (const GridCell* cell : map.rows[row]) {
      out += fmt::format(" {} |", cell == nullptr ? "" : heat_mark(*cell));
    }
    out += "\n";
  }
  out += "\n";
}

void add_published(std::string& out, const GridReport& report) {
  std::string rows;
  for (const GridCell& cell : report.cells) {
    const auto published = published_speedup(cell.key);
    if (!published) continue;
    rows += fmt::format("| {} | {} | {} |\n", markdown_code(name_of(cell.key)),
                        format_ratio(*published),
                        cell.status == CellStatus::done ? markdown_prose(ratio_text(cell.speedup))
                                                        : heat_mark(cell));
  }
  if (rows.empty()) return;
  out += fmt::format("| cell | published | plan measured here |\n|---|---:|---:|\n{}\n{}.\n\n",
                     rows, markdown_prose(kPublishedSource));
}

}  // namespace

std::string to_markdown(const GridReport& report) {
  const GridSummary summary = summarise(report.cells);
  std::string out =
      fmt::format("### Preserve grid report\n\n**{}**\n\n", markdown_prose(report.sentence));
  for (const std::string& warning : report.warnings) {
    out += fmt::format("- {}\n", markdown_prose(warning));
  }
  if (!report.warnings.empty()) out += "\n";
  add_requirements(out, summary);
  out +=
      "Speed-up of the chosen plan; =: nothing is done, N/A: cannot be run, -: not measured "
      "yet.\n\n";
  for (const HeatMap& map : heat_maps(report)) add_heat_map(out, map);
  add_published(out, report);
  for (const auto& [name, value] : report.facts) {
    out += fmt::format("- {}: {}\n", name, markdown_code(value));
  }
  return out;
}

}  // namespace preserve::report
