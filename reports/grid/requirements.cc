// SPDX-License-Identifier: Apache-2.0
#include "reports/grid/requirements.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "common/text.h"
#include "common/units.h"

namespace preserve::report {
namespace {

constexpr double kSlowestAllowed = 0.995;
constexpr double kFidelityTolerance = 0.05;
constexpr double kPredictionTolerance = 0.03;  // of the speed-up
constexpr double kRealisedLeast = 0.9;

// How many of the cells that `belongs` selects are `good`, and whether all are.
template <typename Belongs, typename Good>
std::pair<int64_t, int64_t> good_of(std::span<const GridCell> cells, Belongs belongs, Good good) {
  int64_t all = 0, fine = 0;
  for (const GridCell& cell : cells) {
    if (!cell.sound() || !belongs(cell)) continue;
    ++all;
    fine += good(cell) ? 1 : 0;
  }
  return {fine, all};
}

Requirement fidelity_requirement(std::span<const GridCell> cells, const GridSummary& summary) {
  Requirement out{"replayed baseline within 5 % of the modelled step", std::nullopt,
                  "no cell was measured soundly"};
  if (summary.fidelity_worst == nullptr) return out;
  const auto [good, all] = good_of(
      cells, [](const GridCell& cell) { return cell.fidelity.has_value(); },
      [](const GridCell& cell) { return std::fabs(*cell.fidelity - 1) <= kFidelityTolerance; });
  out.met = good == all;
  out.finding = fmt::format("{} of {} cells; median {}, farthest {} ({})", good, all,
                            format_ratio(*summary.fidelity_median),
                            format_ratio(*summary.fidelity_worst->fidelity),
                            name_of(summary.fidelity_worst->key));
  return out;
}

Requirement prediction_requirement(std::span<const GridCell> cells, const GridSummary& summary) {
  Requirement out{"predicted speed-up within 3 percentage points of the measured one", std::nullopt,
                  "no plan that prefetches was measured soundly"};
  if (summary.prediction_worst == nullptr) return out;
  const auto [good, all] = good_of(
      cells, [](const GridCell& cell) { return cell.plans_prefetch(); },
      [](const GridCell& cell) {
        return std::fabs(cell.predicted_speedup - cell.speedup->estimate) <= kPredictionTolerance;
      });
  out.met = good == all;
  out.finding =
      fmt::format("{} of {} plans; median {:.1f} points, worst {:.1f} ({})", good, all,
                  100 * *summary.prediction_error_median, 100 * *summary.prediction_error_worst,
                  name_of(summary.prediction_worst->key));
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

std::vector<Requirement> requirements(std::span<const GridCell> cells, const GridSummary& summary) {
  Requirement mean{"geometric mean over batch <= 8 on 4 and 8 ranks, with its interval",
                   std::nullopt, "no such cell was measured"};
  if (summary.mean_chosen) {
    mean.met = summary.meant_cells > 1;
    mean.finding =
        fmt::format("{} over {}; plans without the choice {}", interval_text(*summary.mean_chosen),
                    count_of(summary.meant_cells, "cell"), interval_text(*summary.mean_plans));
  }
  return {fidelity_requirement(cells, summary), prediction_requirement(cells, summary),
          saving_requirement(summary), slowest_requirement(summary), mean};
}

Table requirement_table(const std::vector<Requirement>& requirements) {
  Table table{"What a result must show, and what was found",
              {{"Required", Column::wide}, {"Met"}, {"Found", Column::wide}}};
  for (const Requirement& requirement : requirements) {
    const Cell met = !requirement.met   ? unknown_cell("not measured")
                     : *requirement.met ? Cell("yes")
                                        : strong_cell("no");
    table.rows.push_back({requirement.text, met, requirement.finding});
  }
  return table;
}

}  // namespace preserve::report
