// SPDX-License-Identifier: Apache-2.0
#include "reports/explore/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "common/stats.h"
#include "common/units.h"
#include "reports/text.h"

namespace preserve::report {
std::string value_text(const std::string& key, const std::string& word) {
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  if (word.empty() || *end != '\0') return clean(word);
  if (key == "l2" || key == "memory") return format_size(value);
  if (key == "bandwidth" || key == "network_bandwidth") return format_rate(value);
  if (key == "allreduce" || key == "network_latency") return format_duration(value);
  if (key == "context" && value >= 1024) return fmt::format("{:g}K", value / 1024);
  return clean(word);
}

namespace {

std::string key_text(const std::string& key) {
  if (key == "tp") return "ranks";
  if (key == "l2") return "cache";
  return clean(key);
}

// Of the values of an axis, as many as a table can show.
std::vector<std::string> values_of(const ExploreAxis& axis, std::string& title) {
  constexpr size_t kMostValues = 200;
  std::vector<std::string> texts;
  for (const std::string& word : axis.values) {
    if (texts.size() == kMostValues) {
      title += fmt::format("{}the first {} of {} values of {}", title.empty() ? "" : ", ",
                           kMostValues, axis.values.size(), key_text(axis.key));
      break;
    }
    texts.push_back(value_text(axis.key, word));
  }
  return texts;
}

// The axes of rows and columns; the same one twice when no more than one varies.
std::pair<size_t, size_t> shown_axes(const ExploreSheet& sheet) {
  std::vector<size_t> varying;
  std::optional<size_t> batch, context;
  for (size_t a = 0; a < sheet.axes.size(); ++a) {
    if (sheet.axes[a].values.size() < 2) continue;
    varying.push_back(a);
    if (sheet.axes[a].key == "batch") batch = a;
    if (sheet.axes[a].key == "context") context = a;
  }
  if (batch && context) return {*batch, *context};
  if (varying.size() > 1) return {varying[varying.size() - 2], varying.back()};
  const size_t only = varying.empty() ? 0 : varying[0];
  return {only, only};
}

// Walks over the values of all axes but two.
class OtherAxes {
 public:
  OtherAxes(const ExploreSheet& sheet, size_t row, size_t column)
      : sheet_(sheet), row_(row), column_(column), places_(sheet.axes.size(), 0) {}

  std::string title() const {
    std::string text = clean(sheet_.title);
    for (size_t a = 0; a < places_.size(); ++a) {
      const ExploreAxis& axis = sheet_.axes[a];
      if (a == row_ || a == column_ || axis.values.size() < 2) continue;
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key_text(axis.key),
                          value_text(axis.key, axis.values[places_[a]]));
    }
    return text;
  }
  int64_t id_at(size_t row, size_t column) const {
    int64_t place = 0;
    for (size_t a = 0; a < places_.size(); ++a) {
      const size_t at = a == row_ ? row : a == column_ ? column : places_[a];
      place = place * static_cast<int64_t>(sheet_.axes[a].values.size()) + static_cast<int64_t>(at);
    }
    return sheet_.first_id + place;
  }
  bool next() {
    for (size_t a = places_.size(); a-- > 0;) {
      if (a == row_ || a == column_) continue;
      if (++places_[a] < sheet_.axes[a].values.size()) return true;
      places_[a] = 0;
    }
    return false;
  }

 private:
  const ExploreSheet& sheet_;
  size_t row_, column_;
  std::vector<size_t> places_;
};

const ExploreCell* cell_at(const ExploreReport& report, int64_t id) {
  const auto at = std::ranges::lower_bound(report.cells, id, {}, &ExploreCell::id);
  return at != report.cells.end() && at->id == id ? &*at : nullptr;
}

std::string summary_of(const ExploreReport& report) {
  std::vector<double> speedups;
  const ExploreCell* best = nullptr;
  for (const ExploreCell& cell : report.cells) {
    if (!cell.done()) continue;
    speedups.push_back(flow_speedup(cell));
    if (best == nullptr || speedups.back() > flow_speedup(*best)) best = &cell;
  }
  if (best == nullptr) {
    return fmt::format("Explored: {} cells, none of which can be run.", report.cells.size());
  }
  return fmt::format(
      "Explored, not measured: {} of {} cells can be run; prefetching by flow makes their steps {} "
      "in the median, and at most {} ({}).",
      speedups.size(), report.cells.size(), describe_speedup(median(speedups)),
      describe_speedup(flow_speedup(*best)), cell_name(*best));
}

}  // namespace

ExploreReport build_explore_report(const InputFile& input) {
  const TraceDb db = TraceDb::open(input.path);
  ExploreReport report{.input = input};
  report.complete = db.meta("incomplete") != "1";
  report.figure = clean(db.meta("explore_figure"));
  report.sheets = read_explore_sheets(db);
  int64_t left_out = 0;
  read_explore_cells(db, [&](const ExploreCell& cell) {
    if (report.cells.size() >= kMostCells) {
      ++left_out;
      return;
    }
    ExploreCell& kept = report.cells.emplace_back(cell);
    for (std::string* text : {&kept.model, &kept.device, &kept.dtype, &kept.status}) {
      *text = clean(*text);
    }
    kept.reason = clean(kept.reason, 600);
  });
  if (!report.complete) {
    report.warnings.emplace_back(
        "the exploration is not complete: cells without a mark were not reached");
  }
  if (left_out > 0) {
    report.warnings.push_back(
        fmt::format("{} cells are in explore.db alone: a report holds {}", left_out, kMostCells));
  }
  report.sentence = summary_of(report);
  return report;
}

std::vector<ExploreMap> explore_maps(const ExploreReport& report, size_t most) {
  std::vector<ExploreMap> maps;
  for (const ExploreSheet& sheet : report.sheets) {
    if (sheet.axes.empty()) continue;
    const auto [row, column] = shown_axes(sheet);
    OtherAxes others(sheet, row, column);
    do {
      if (maps.size() >= most) return maps;
      ExploreMap map{.title = others.title(),
                     .row_key = row == column ? "" : key_text(sheet.axes[row].key),
                     .column_key = key_text(sheet.axes[column].key)};
      map.rows =
          row == column ? std::vector<std::string>{"all"} : values_of(sheet.axes[row], map.title);
      map.columns = values_of(sheet.axes[column], map.title);
      bool reached = false;
      for (size_t r = 0; r < map.rows.size(); ++r) {
        std::vector<const ExploreCell*>& cells = map.cells.emplace_back();
        for (size_t c = 0; c < map.columns.size(); ++c) {
          cells.push_back(cell_at(report, others.id_at(row == column ? c : r, c)));
          reached = reached || cells.back() != nullptr;
        }
      }
      if (reached) maps.push_back(std::move(map));
    } while (others.next());
  }
  return maps;
}

double density(const CapacityCurve& curve, const ExploreCell& cell, double step_ns) {
  const double tokens_per_s = static_cast<double>(cell.batch) * kNsPerS / step_ns;
  return curve.per_area ? tokens_per_s / *cell.area_mm2 : tokens_per_s;
}

std::vector<CapacityCurve> capacity_curves(const ExploreReport& report) {
  std::map<std::string, CapacityCurve> curves;
  for (const ExploreCell& cell : report.cells) {
    // A cache that does not hold what a step keeps between operators is no design.
    if (!cell.done() || cell.cache_bytes < cell.activation_bytes) continue;
    const std::string name = fmt::format(
        "{} on {}, memory {}, allreduce {}", cell_name(cell), cell.device,
        format_rate(cell.memory_bandwidth_bytes_per_s), format_duration(cell.allreduce_ns));
    CapacityCurve& curve = curves[name];
    curve.name = name;
    curve.cells.push_back(&cell);
  }
  std::vector<CapacityCurve> out;
  for (auto& entry : curves) {
    CapacityCurve& curve = entry.second;
    std::ranges::stable_sort(curve.cells, {}, &ExploreCell::cache_bytes);
    if (curve.cells.front()->cache_bytes == curve.cells.back()->cache_bytes) continue;
    curve.per_area = std::ranges::all_of(
        curve.cells, [](const auto* cell) { return cell->area_mm2 && *cell->area_mm2 > 0; });
    const auto best = [&](double ExploreCell::*step) {
      size_t at = 0;
      for (size_t i = 1; i < curve.cells.size(); ++i) {
        const ExploreCell &cell = *curve.cells[i], &other = *curve.cells[at];
        if (density(curve, cell, cell.*step) > density(curve, other, other.*step)) at = i;
      }
      return at;
    };
    curve.best_baseline = best(&ExploreCell::baseline_step_ns);
    curve.best_flow = best(&ExploreCell::flow_step_ns);
    out.push_back(std::move(curve));
  }
  return out;
}

double flow_speedup(const ExploreCell& cell) {
  return cell.baseline_step_ns / cell.flow_step_ns;
}

std::string cell_name(const ExploreCell& cell) {
  return fmt::format("{} {}, TP {}, batch {}, context {}", cell.model, cell.dtype, cell.ranks,
                     cell.batch, value_text("context", fmt::format("{}", cell.context)));
}

std::string cell_mark(const ExploreCell* cell, double value) {
  if (cell == nullptr) return "-";
  if (cell->status == kExploreNotAvailable) return "N/A";
  if (!cell->done()) return "failed";
  return value == 1 ? "=" : fmt::format("{:.3f}", value);
}

}  // namespace preserve::report
