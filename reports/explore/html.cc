// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <set>

#include "common/units.h"
#include "reports/explore/report.h"
#include "reports/page/chart.h"
#include "reports/page/heat.h"
#include "reports/page/parts.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr size_t kMaps = 48, kCurves = 12, kBars = 40, kRows = 1000;

double fused_ratio(const ExploreCell& cell) {
  return cell.fused_step_ns / cell.flow_step_ns;
}

std::string hover_of(const ExploreCell* cell) {
  if (cell == nullptr) return "not reached";
  const std::string name =
      fmt::format("{} on {}, cache {}, allreduce {}", cell_name(*cell), cell->device,
                  format_size(cell->cache_bytes), format_duration(cell->allreduce_ns));
  if (!cell->done()) return fmt::format("{}\n{}", name, cell->reason);
  return fmt::format("{}\nbaseline {}\nbfs {}\nflow {}\nfused {}\nall hot {}", name,
                     format_duration(cell->baseline_step_ns), format_duration(cell->bfs_step_ns),
                     format_duration(cell->flow_step_ns), format_duration(cell->fused_step_ns),
                     format_duration(cell->all_hot_step_ns));
}

std::string shade_of(const ExploreCell* cell, double value) {
  if (cell == nullptr) return "none";
  if (cell->status == kExploreNotAvailable) return "na";
  return cell->done() ? heat_shade(value) : "bad";
}

std::string heat_table(const ExploreMap& map, const char* what,
                       double (*value_of)(const ExploreCell&)) {
  std::string out = fmt::format(
      "<div class=\"scroll\"><table class=\"heat\"><caption>{}{}{}</caption>\n<thead><tr>"
      "<th scope=\"col\" class=\"n\">{} / {}</th>",
      escape_html(map.title), map.title.empty() ? "" : ": ", what, escape_html(map.row_key),
      escape_html(map.column_key));
  for (const std::string& column : map.columns) {
    out += fmt::format("<th scope=\"col\" class=\"n\">{}</th>", escape_html(column));
  }
  out += "</tr></thead>\n<tbody>\n";
  for (size_t row = 0; row < map.rows.size(); ++row) {
    out += fmt::format("<tr><th scope=\"row\" class=\"n\">{}</th>", escape_html(map.rows[row]));
    for (const ExploreCell* cell : map.cells[row]) {
      const double value = cell != nullptr && cell->done() ? value_of(*cell) : 1;
      out += fmt::format("<td class=\"h {}\" title=\"{}\">{}</td>", shade_of(cell, value),
                         escape_html(hover_of(cell)), escape_html(cell_mark(cell, value)));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string speedups(const std::vector<ExploreMap>& maps) {
  std::string out = html_section("maps", "Speed-up over the baseline") + heat_legend("not reached");
  out += "<div class=\"maps\">\n";
  for (const ExploreMap& map : maps) out += heat_table(map, "speed-up by flow", flow_speedup);
  out += "</div>\n";
  if (maps.size() == kMaps) out += "<p>More maps are in the JSON report.</p>\n";
  return out + html_how(
                   "The number is the predicted step time of the baseline over that with the best "
                   "plan of strategy flow. The hover text has the other strategies and bounds, "
                   "and why a cell cannot be run.");
}

std::string against_fused(const ExploreReport& report, const std::vector<ExploreMap>& maps) {
  if (report.figure != "fused") return "";
  std::string out = html_section("fused", "Against overlapping the collective with its operator");
  out += "<div class=\"maps\">\n";
  for (const ExploreMap& map : maps) out += heat_table(map, "fused over flow", fused_ratio);
  out += "</div>\n";
  return out + html_how(
                   "Above 1 the step with prefetching is faster than the one whose products "
                   "overlap their allreduces. Both are predicted.");
}

// Bytes of one layer and rank against the cache, one bar per model, type, ranks, batch and context.
std::string footprints(const ExploreReport& report) {
  constexpr double kRow = 26, kBar = 16;
  std::vector<const ExploreCell*> cells;
  std::set<std::string> seen;
  double longest = 1;
  for (const ExploreCell& cell : report.cells) {
    const int64_t bytes = cell.attention_weight_bytes + cell.kv_bytes + cell.mlp_bytes;
    if (bytes <= 0 || cells.size() == kBars || !seen.insert(cell_name(cell)).second) continue;
    cells.push_back(&cell);
    longest =
        std::max({longest, static_cast<double>(bytes), static_cast<double>(cell.cache_bytes)});
  }
  if (cells.empty()) return "";
  const double bottom = static_cast<double>(cells.size()) * kRow + 4;
  Svg svg(bottom + kAxis + 2, "Bytes of a layer against the cache",
          "One bar per model, ranks, batch and context: attention weights, KV and MLP of one "
          "layer and rank. The line is the capacity of the cache.");
  const auto width_of = [&](int64_t bytes) { return static_cast<double>(bytes) / longest * kPlot; };
  svg.size_axis(0, longest, 0, bottom);
  HtmlTable table("Bytes of one layer on one rank", {"Cell", number("Attention weights"),
                                                     number("KV"), number("MLP"), number("Cache")});
  double y = 5;
  for (const ExploreCell* cell : cells) {
    const std::string name = cell_name(*cell);
    svg.row_label(y + 12, fmt::format("{}, TP {}, {} x {}", shorten(cell->model, 14), cell->ranks,
                                      cell->batch, cell->context));
    double x = kLeft;
    for (const auto& [bytes, colour, what] :
         {std::tuple(cell->attention_weight_bytes, "k-compute", "attention weights"),
          std::tuple(cell->kv_bytes, "k-copy", "KV"),
          std::tuple(cell->mlp_bytes, "k-other", "MLP")}) {
      svg.rect(x, y, width_of(bytes), kBar, colour,
               fmt::format("{}: {} {}", name, what, format_size(bytes)));
      x += width_of(bytes);
    }
    const double at = kLeft + width_of(cell->cache_bytes);
    svg.line(at, y - 3, at, y + kBar + 3, "mark");
    table.row({html_name(name), format_size(cell->attention_weight_bytes),
               format_size(cell->kv_bytes), format_size(cell->mlp_bytes),
               format_size(cell->cache_bytes)});
    y += kRow;
  }
  return html_section("footprint", "Footprint of a layer") + svg.finish() + table.finish() +
         html_how(
             "Blue is attention weights, light blue KV, grey MLP; the upright line is the cache. "
             "What lies left of the line could be held at once.");
}

std::string curve_chart(const CapacityCurve& curve) {
  constexpr double kHeight = 190, kTop = 26;
  const auto first = static_cast<double>(curve.cells.front()->cache_bytes);
  const auto last = static_cast<double>(curve.cells.back()->cache_bytes);
  double most = 0;
  for (const ExploreCell* cell : curve.cells) {
    most = std::max({most, density(curve, *cell, cell->flow_step_ns),
                     density(curve, *cell, cell->baseline_step_ns)});
  }
  Svg svg(kHeight + kAxis, "Throughput by capacity of the cache",
          "The upper curve is with prefetching, the lower without; a vertical line marks the best "
          "capacity of each.");
  const auto x_of = [&](const ExploreCell& cell) {
    return kLeft + (static_cast<double>(cell.cache_bytes) - first) / (last - first) * kPlot;
  };
  const auto y_of = [&](double value) { return kHeight - value / most * (kHeight - kTop); };
  svg.size_axis(first, last, kTop, kHeight);
  svg.row_label(kTop + 4,
                fmt::format("{:.4g} {}", most, curve.per_area ? "tokens/s/mm2" : "tokens/s"));
  // The label of the upper curve lies above it, that of the lower one below.
  const auto draw = [&](double ExploreCell::*step, const char* colour, size_t best, double label) {
    std::string path;
    for (const ExploreCell* cell : curve.cells) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x_of(*cell),
                          y_of(density(curve, *cell, cell->*step)));
    }
    svg.path(path, colour);
    const ExploreCell& at = *curve.cells[best];
    const double y = y_of(density(curve, at, at.*step));
    svg.line(x_of(at), y - 8, x_of(at), y + 8, "mark");
    svg.value(x_of(at) + 6, y + label, format_size(at.cache_bytes));
  };
  draw(&ExploreCell::baseline_step_ns, "curve plain", curve.best_baseline, 18);
  draw(&ExploreCell::flow_step_ns, "curve", curve.best_flow, -10);
  return svg.finish();
}

std::string designs(const ExploreReport& report) {
  const std::vector<CapacityCurve> curves = capacity_curves(report);
  if (curves.empty()) return "";
  HtmlTable table("The best capacity of the cache", {wide("Devices"), number("Without prefetching"),
                                                     number("With flow"), number("Gain")});
  std::string charts;
  for (size_t i = 0; i < std::min(kRows, curves.size()); ++i) {
    const CapacityCurve& curve = curves[i];
    const ExploreCell& without = *curve.cells[curve.best_baseline];
    const ExploreCell& with = *curve.cells[curve.best_flow];
    table.row({escape_html(curve.name), format_size(without.cache_bytes),
               format_size(with.cache_bytes),
               format_ratio(density(curve, with, with.flow_step_ns) /
                            density(curve, without, without.baseline_step_ns))});
    if (i < kCurves) {
      charts += fmt::format("<h3>{}</h3>\n", escape_html(curve.name)) + curve_chart(curve);
    }
  }
  return html_section("design", "Capacity of the cache") + table.finish() + charts +
         html_how(
             "Green is with prefetching by flow, grey without; both optima are marked, and the "
             "gain is the one over the other. Throughput is per area of a device where the "
             "constants of an area model were given.");
}

std::string all_cells(const ExploreReport& report) {
  HtmlTable table("Cells", {"Cell", "Device", number("Cache"), number("Baseline"), number("bfs"),
                            number("flow"), number("All hot"), wide("Status")});
  for (size_t i = 0; i < std::min(kRows, report.cells.size()); ++i) {
    const ExploreCell& cell = report.cells[i];
    const auto time = [&](double step_ns) {
      return cell.done() ? format_duration(step_ns) : std::string();
    };
    table.row({html_name(cell_name(cell)), html_name(cell.device), format_size(cell.cache_bytes),
               time(cell.baseline_step_ns), time(cell.bfs_step_ns), time(cell.flow_step_ns),
               time(cell.all_hot_step_ns), cell.done() ? "done" : escape_html(cell.reason)});
  }
  return html_section("explored", "All cells") + table.finish() +
         html_more(report.cells.size(), kRows, "cells");
}

}  // namespace

std::string to_html(const ExploreReport& report) {
  const std::vector<ExploreMap> maps = explore_maps(report, kMaps);
  const std::string earlier = html_against_earlier(
      report, "Against an earlier exploration", "done only",
      "Cells meet by what either exploration varies; what each keeps fixed may differ, and is the "
      "change that the numbers show. All of it is predicted.");
  return html_page("Preserve exploration",
                   html_head("exploration", "plain", report) + speedups(maps) + earlier +
                       against_fused(report, maps) + footprints(report) + designs(report) +
                       all_cells(report),
                   to_json(report));
}

}  // namespace preserve::report
