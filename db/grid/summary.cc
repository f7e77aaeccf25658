// SPDX-License-Identifier: Apache-2.0
#include "db/grid/summary.h"
#include "common/text.h"

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
  if (cell.sound() && plan_speedup(cell) < kSlowestAllowed) ++summary.slower_plans;
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
    if (error <= kPredictionTolerance) ++summary.predictions_good;
    errors.push_back(error);
  }
  summary.predictions = static_cast<int64_t>(errors.size());
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
    if (std::fabs(*cell.fidelity - 1) <= kFidelityTolerance) ++summary.fidelities_good;
    if (summary.fidelity_worst == nullptr || distance(cell) > distance(*summary.fidelity_worst)) {
      summary.fidelity_worst = &cell;
    }
  }
  summary.fidelities = static_cast<int64_t>(values.size());
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

Requirement fidelity_requirement(const GridSummary& summary) {
  Requirement out{"replayed baseline within 5 % of the modelled step", std::nullopt,
                  "no cell was measured soundly"};
  if (summary.fidelity_worst == nullptr) return out;
  out.met = summary.fidelities_good == summary.fidelities;
  out.finding = fmt::format("{} of {} cells; median {}, farthest {} ({})", summary.fidelities_good,
                            summary.fidelities, format_ratio(*summary.fidelity_median),
                            format_ratio(*summary.fidelity_worst->fidelity),
                            name_of(summary.fidelity_worst->key));
  return out;
}

Requirement prediction_requirement(const GridSummary& summary) {
  Requirement out{"predicted speed-up within 3 percentage points of the measured one", std::nullopt,
                  "no plan that prefetches was measured soundly"};
  if (summary.prediction_worst == nullptr) return out;
  out.met = summary.predictions_good == summary.predictions;
  out.finding = fmt::format(
      "{} of {} plans; median {:.1f} points, worst {:.1f} ({})", summary.predictions_good,
      summary.predictions, 100 * *summary.prediction_error_median,
      100 * *summary.prediction_error_worst, name_of(summary.prediction_worst->key));
  return out;
}

Requirement saving_requirement(const GridSummary& summary) {
  Requirement out{"at least 90 % of the predicted saving realised", std::nullopt,
                  "no plan that prefetches was measured soundly"};
  if (summary.realised_worst == nullptr) return out;
  out.met = *summary.realised_share >= kRealisedLeast;
  out.finding = fmt::format("{:.0f} % over all plans; median {:.0f} %, worst {:.0f} % ({})",
                            100 * *summary.realised_share, 100 * *summary.realised_share_median,
                            100 * *realised_share(*summary.realised_worst),
                            name_of(summary.realised_worst->key));
  return out;
}

Requirement slowest_requirement(const GridSummary& summary) {
  Requirement out{"no cell slower than 0.995x after the choice", std::nullopt,
                  "no cell was measured"};
  if (summary.done == 0) return out;
  out.met = summary.slowest_chosen >= kSlowestAllowed;
  out.finding = fmt::format("{} measured below 0.995x, all replaced by doing nothing",
                            count_of(summary.slower_plans, "plan"));
  if (summary.worst_plan != nullptr) {
    out.finding +=
        fmt::format("; slowest plan {} ({})", format_ratio(summary.worst_plan->speedup->estimate),
                    name_of(summary.worst_plan->key));
  }
  return out;
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

std::vector<Requirement> requirements(const GridSummary& summary) {
  Requirement mean{"geometric mean over batch <= 8 on 4 and 8 ranks, with its interval",
                   std::nullopt, "no such cell was measured"};
  if (summary.mean_chosen) {
    mean.met = summary.meant_cells > 1;
    mean.finding =
        fmt::format("{} over {}; plans without the choice {}", interval_text(*summary.mean_chosen),
                    count_of(summary.meant_cells, "cell"), interval_text(*summary.mean_plans));
  }
  return {fidelity_requirement(summary), prediction_requirement(summary),
          saving_requirement(summary), slowest_requirement(summary), mean};
}

}  // namespace preserve
