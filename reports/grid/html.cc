// SPDX-License-Identifier: Apache-2.0

#include <algorithm>

#include "common/units.h"
#include "reports/grid/report.h"
#include "reports/page/heat.h"
#include "reports/page/parts.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

struct HeatCell {
  std::string mark, shade, hover;
};

std::string arm_words(const GridCell& cell) {
  std::string out;
  for (const CellArm& arm : cell.arms) {
    out += fmt::format("\n{} {}", arm.name, format_duration(arm.step_ns));
    if (arm.speedup) out += ", " + format_ratio(arm.speedup->estimate);
  }
  return out;
}

HeatCell unmeasured_cell(const GridCell& cell) {
  const char* shade = cell.status == CellStatus::not_available ? "na"
                      : cell.status == CellStatus::failed      ? "bad"
                                                               : "none";
  return {heat_mark(cell), shade, fmt::format("{}\n{}", name_of(cell.key), cell.reason)};
}

HeatCell chosen_cell(const GridCell& cell) {
  if (cell.status != CellStatus::done) return unmeasured_cell(cell);
  return {heat_mark(cell), heat_shade(cell.chosen_speedup),
          fmt::format("{}\nplan measured {}\npredicted {}\nchosen: {}{}", name_of(cell.key),
                      ratio_text(cell.speedup), format_ratio(cell.predicted_speedup), cell.choice,
                      arm_words(cell))};
}

HeatCell fused_cell(const GridCell& cell) {
  if (cell.status != CellStatus::done) return unmeasured_cell(cell);
  if (!cell.fused) return {"-", "none", name_of(cell.key) + "\nno overlap arm"};
  return {fmt::format("{:.3f}", cell.fused->estimate), heat_shade(cell.fused->estimate),
          fmt::format("{}\noverlap / prefetch {}{}", name_of(cell.key), ratio_text(cell.fused),
                      arm_words(cell))};
}

bool starts_group(const HeatMap& map, size_t column) {
  size_t first = 0;
  for (const auto& [ranks, contexts] : map.columns) {
    if (column == first) return true;
    first += contexts.size();
  }
  return false;
}

std::string heat_table(const HeatMap& map, const std::string& what,
                       HeatCell (*show)(const GridCell&)) {
  std::string out = fmt::format(
      "<div class=\"scroll\"><table class=\"heat\"><caption>{}, {}: {}</caption>\n<thead><tr>"
      "<th scope=\"col\" rowspan=\"2\" class=\"n\">Batch</th>",
      escape_html(map.model), escape_html(map.dtype), escape_html(what));
  std::string contexts_row;
  for (const auto& [ranks, contexts] : map.columns) {
    out += fmt::format("<th scope=\"colgroup\" colspan=\"{}\" class=\"group\">TP {}</th>",
                       contexts.size(), ranks);
    for (size_t i = 0; i < contexts.size(); ++i) {
      contexts_row += fmt::format("<th scope=\"col\" class=\"n{}\">{}</th>", i == 0 ? " group" : "",
                                  tokens_text(contexts[i]));
    }
  }
  out += fmt::format("</tr>\n<tr>{}</tr></thead>\n<tbody>\n", contexts_row);
  for (size_t row = 0; row < map.batches.size(); ++row) {
    out += fmt::format("<tr><th scope=\"row\" class=\"n\">{}</th>", map.batches[row]);
    for (size_t column = 0; column < map.rows[row].size(); ++column) {
      const GridCell* cell = map.rows[row][column];
      const HeatCell shown = cell == nullptr ? HeatCell{"", "none", ""} : show(*cell);
      out += fmt::format("<td class=\"h {}{}\" title=\"{}\">{}</td>", shown.shade,
                         starts_group(map, column) ? " group" : "", escape_html(shown.hover),
                         escape_html(shown.mark));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string header(const GridReport& report, const GridSummary& summary) {
  const auto& mean = summary.mean_chosen ? summary.mean_chosen : summary.mean_chosen_all;
  return html_head("grid report", mean && mean->low > 1 ? "fast" : "plain", report);
}

std::string against_earlier(const GridReport& report) {
  return html_against_earlier(
      report, "Against an earlier grid", "only",
      "Undecided means that the intervals of the two plans overlap, so the grids do not tell. = is "
      "a cell where nothing is done.");
}

std::string finding_section(const GridSummary& summary) {
  return html_section("findings", "Over all cells") + html_table(finding_table(summary)) +
         html_how(
             "Only cells with enough pairs on a quiet machine count as findings. The geometric "
             "mean counts a cell where nothing is done as 1, and its interval is a bootstrap over "
             "the cells.");
}

std::string speedups(const std::vector<HeatMap>& maps) {
  std::string out =
      html_section("heat", "Speed-up over the baseline") + heat_legend("not measured");
  out += "<div class=\"maps\">\n";
  for (const HeatMap& map : maps) {
    out += heat_table(map, "speed-up of the chosen plan", chosen_cell);
  }
  return out + "</div>\n" +
         html_how(
             "Rows are batch sizes, columns ranks and tokens per sequence; the number is the step "
             "time of the baseline over that of what was chosen. Where the interval of the "
             "measured plan is not above 1, nothing is done (=); what the plan itself measured "
             "is in the hover text and in the table of all cells.");
}

std::string against_fused(const GridReport& report, const std::vector<HeatMap>& maps) {
  std::string out = html_section("fused", "Against overlapping the collective with its operator");
  const bool any = std::ranges::any_of(report.cells,
                                       [](const GridCell& cell) { return cell.fused.has_value(); });
  if (!any) {
    return out +
           "<p>The arm overlap (matrix product in chunks whose allreduces overlap the next chunk) "
           "was not measured: the executor has none.</p>\n";
  }
  HtmlTable table("Step times", {"Cell", number("Baseline"), number("Prefetch"), number("Overlap"),
                                 number("Prefetch speed-up"), number("Overlap speed-up"),
                                 number("Overlap / prefetch")});
  out += "<div class=\"maps\">\n";
  for (const HeatMap& map : maps) {
    bool shown = false;
    for (const auto& row : map.rows) {
      for (const GridCell* cell : row) shown = shown || (cell != nullptr && cell->fused);
    }
    if (shown) out += heat_table(map, "step of overlap over step of the prefetch plan", fused_cell);
  }
  out += "</div>\n";
  const auto time_of = [](const CellArm* arm) {
    return arm == nullptr ? std::string("-") : format_duration(arm->step_ns);
  };
  for (const GridCell& cell : report.cells) {
    if (!cell.fused) continue;
    const CellArm* overlap = arm_of(cell, "overlap");
    table.row({html_name(name_of(cell.key)), time_of(arm_of(cell, "baseline")),
               time_of(arm_of(cell, "prefetch")), time_of(overlap), ratio_text(cell.speedup),
               overlap == nullptr ? "-" : ratio_text(overlap->speedup), ratio_text(cell.fused)});
  }
  return out + table.finish() +
         html_how(
             "Above 1 the prefetch plan is faster than the overlapped form, the family of fused "
             "operators that the paper compares with. The paper publishes for Llama3-70B in fp16 "
             "on 4 Ascend 910B: up to 1.19x at small batches, 0.93x at batch 1024 and short "
             "context, against npu_mm_all_reduce_base.");
}

std::string published(const GridReport& report) {
  HtmlTable table(
      "Cells that the paper publishes",
      {"Cell", number("Published"), number("Plan measured here"), number("Predicted here")});
  bool any = false;
  for (const GridCell& cell : report.cells) {
    const auto value = published_speedup(cell.key);
    if (!value) continue;
    any = true;
    const bool done = cell.status == CellStatus::done;
    table.row({html_name(name_of(cell.key)), format_ratio(*value),
               done ? ratio_text(cell.speedup) : escape_html(heat_mark(cell)),
               done ? format_ratio(cell.predicted_speedup) : "-"});
  }
  std::string out = html_section("published", "Next to the published numbers");
  if (!any) {
    return out +
           "<p>None of the cells is one whose published number is known: 8-bit weights, 4 ranks, "
           "batch 4, context 16K.</p>\n";
  }
  return out + table.finish() +
         html_how(std::string(kPublishedSource) +
                  ". Numbers as transcribed by readers of the paper; they are of other hardware "
                  "and of whole requests, so they are no target here.");
}

std::string settings(const GridReport& report) {
  HtmlTable table("How it was measured", {"Fact", wide("Value")});
  for (const auto& [name, value] : report.facts) table.row({escape_html(name), html_name(value)});
  table.row({"File", html_name(clean(report.input.path.string()))});
  table.row({"SHA-256 of the file", html_name(report.input.sha256)});
  table.row({"Reported by", fmt::format("preserve {}", PRESERVE_VERSION)});
  return html_section("settings", "Device and settings") + table.finish();
}

std::string all_cells(const GridReport& report) {
  HtmlTable table(
      "Measured cells",
      {"Cell", "Plan", number("Modelled step"), number("Predicted"), number("Plan measured"),
       "Verdict", "Chosen", number("Fidelity"), number("Saving realised"), number("Took")});
  HtmlTable others("Cells without a number", {"Cell", "Status", number("Took"), wide("Reason")});
  bool any_other = false;
  for (const GridCell& cell : report.cells) {
    if (cell.status != CellStatus::done) {
      any_other = true;
      others.row({html_name(name_of(cell.key)),
                  cell.status == CellStatus::not_available ? "N/A" : to_text(cell.status),
                  cell.status == CellStatus::pending ? "" : format_duration(cell.dur_ns),
                  escape_html(cell.reason)});
      continue;
    }
    const auto share = realised_share(cell);
    table.row({html_name(name_of(cell.key)), escape_html(cell.plan_verdict),
               format_duration(cell.modelled_step_ns), format_ratio(cell.predicted_speedup),
               ratio_text(cell.speedup),
               escape_html(to_string(cell.verdict)) + (cell.busy ? " (busy)" : ""),
               escape_html(cell.choice), cell.fidelity ? format_ratio(*cell.fidelity) : "-",
               share ? fmt::format("{:.0f} %", 100 * *share) : "-", format_duration(cell.dur_ns)});
  }
  return html_section("cells", "All cells") + table.finish() + (any_other ? others.finish() : "");
}

}  // namespace

std::string to_html(const GridReport& report) {
  const GridSummary summary = summarise(report.cells);
  const std::vector<HeatMap> maps = heat_maps(report.cells);
  return html_page("Preserve grid report",
                   header(report, summary) + speedups(maps) + against_earlier(report) +
                       finding_section(summary) + against_fused(report, maps) + published(report) +
                       settings(report) + all_cells(report),
                   to_json(report));
}

}  // namespace preserve::report
