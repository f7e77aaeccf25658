// SPDX-License-Identifier: Apache-2.0
#include "db/grid/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "common/units.h"

namespace preserve {
namespace {

constexpr int64_t kLargestMeantBatch = 8;

std::optional<Interval> geometric_mean(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  return bootstrap_geometric_mean(values);
}

std::optional<double> median_of(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  return median(values);
}

// Speed-up of the plan alone, 1 where it does nothing or was not measured soundly: what would come
// out without the choice.
double plan_speedup(const GridCell& cell) {
  return cell.plans_prefetch() && cell.sound() ? cell.speedup->estimate : 1;
}

void count(const GridCell& cell, GridSummary& summary) {
  ++summary.cells;
  switch (cell.status) {
    case CellStatus::pending:
      ++summary.pending;
      return;
    case CellStatus::not_available:
      ++summary.not_available;
      return;
    case CellStatus::failed:
      ++summary.failed;
      return;
    case CellStatus::done:
      ++summary.done;
  }
  if (!cell.sound()) ++summary.unsound;
  if (!cell.plans_prefetch()) {
    ++summary.planned_nothing;
  } else if (cell.choice == kDoNothing) {
    ++summary.rejected;
  }
  if (cell.sound() && plan_speedup(cell) < 1 - kVerdictTolerance) ++summary.slower_plans;
}

void find_extremes(const GridCell& cell, GridSummary& summary) {
  if (summary.best == nullptr || cell.chosen_speedup > summary.best->chosen_speedup) {
    summary.best = &cell;
  }
  summary.slowest_chosen = std::min(summary.slowest_chosen, cell.chosen_speedup);
  if (!cell.plans_prefetch() || !cell.sound()) return;
  if (summary.worst_plan == nullptr || plan_speedup(cell) < plan_speedup(*summary.worst_plan)) {
    summary.worst_plan = &cell;
  }
}

void judge_predictions(std::span<const GridCell> cells, GridSummary& summary) {
  std::vector<double> errors;
  for (const GridCell& cell : cells) {
    if (!cell.sound() || !cell.plans_prefetch()) continue;
    const double error = std::fabs(cell.predicted_speedup - cell.speedup->estimate);
    if (errors.empty() || error > *summary.prediction_error_worst) {
      summary.prediction_error_worst = error;
      summary.prediction_worst = &cell;
    }
    errors.push_back(error);
  }
  summary.prediction_error_median = median_of(errors);
}

void judge_savings(std::span<const GridCell> cells, GridSummary& summary) {
  std::vector<double> shares;
  double predicted = 0, realised = 0;
  for (const GridCell& cell : cells) {
    const auto share = realised_share(cell);
    if (!share) continue;
    shares.push_back(*share);
    predicted += static_cast<double>(cell.predicted_saved_ns);
    realised += static_cast<double>(cell.realised_saved_ns);
    if (summary.realised_worst == nullptr || *share < *realised_share(*summary.realised_worst)) {
      summary.realised_worst = &cell;
    }
  }
  summary.realised_share_median = median_of(shares);
  if (!shares.empty()) summary.realised_share = realised / predicted;
}

void judge_fidelity(std::span<const GridCell> cells, GridSummary& summary) {
  std::vector<double> values;
  const auto distance = [](const GridCell& cell) { return std::fabs(std::log(*cell.fidelity)); };
  for (const GridCell& cell : cells) {
    if (!cell.sound() || !cell.fidelity) continue;
    values.push_back(*cell.fidelity);
    if (summary.fidelity_worst == nullptr || distance(cell) > distance(*summary.fidelity_worst)) {
      summary.fidelity_worst = &cell;
    }
  }
  summary.fidelity_median = median_of(values);
}

void average(std::span<const GridCell> cells, GridSummary& summary) {
  std::vector<double> chosen, plans, all;
  for (const GridCell& cell : cells) {
    if (cell.status != CellStatus::done) continue;
    all.push_back(cell.chosen_speedup);
    if (!small_and_parallel(cell.key)) continue;
    chosen.push_back(cell.chosen_speedup);
    plans.push_back(plan_speedup(cell));
  }
  summary.meant_cells = static_cast<int64_t>(chosen.size());
  summary.mean_chosen = geometric_mean(chosen);
  summary.mean_plans = geometric_mean(plans);
  summary.mean_chosen_all = geometric_mean(all);
}

}  // namespace

bool small_and_parallel(const CellKey& key) {
  return key.batch <= kLargestMeantBatch && (key.ranks == 4 || key.ranks == 8);
}

std::optional<double> realised_share(const GridCell& cell) {
  if (!cell.sound() || !cell.plans_prefetch() || cell.predicted_saved_ns <= 0) return std::nullopt;
  return static_cast<double>(cell.realised_saved_ns) / static_cast<double>(cell.predicted_saved_ns);
}

GridSummary summarise(std::span<const GridCell> cells) {
  GridSummary summary;
  for (const GridCell& cell : cells) {
    count(cell, summary);
    if (cell.status == CellStatus::done) find_extremes(cell, summary);
  }
  average(cells, summary);
  judge_predictions(cells, summary);
  judge_savings(cells, summary);
  judge_fidelity(cells, summary);
  return summary;
}

std::string interval_text(const Interval& interval) {
  return fmt::format("{} [{:.3f}, {:.3f}]", format_ratio(interval.estimate), interval.low,
                     interval.high);
}

}  // namespace preserve
