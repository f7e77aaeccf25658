// SPDX-License-Identifier: Apache-2.0
// What a grid says as a whole: the numbers that preserve-replay --grid prints and the report shows,
// so that both say the same. Pure; definitions in docs/metrics.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "common/stats.h"
#include "db/grid/cells.h"

namespace preserve {

struct GridSummary {
  int64_t cells = 0, done = 0, not_available = 0, failed = 0, pending = 0;
  int64_t unsound = 0;          // done cells with too few pairs or from a busy machine
  int64_t planned_nothing = 0;  // done cells whose plan does nothing
  int64_t rejected = 0;         // plans that the measurement turned into do-nothing
  int64_t slower_plans = 0;     // plans measured below 1 - kVerdictTolerance

  // Over the cells that are meant (small_and_parallel), when there are any.
  int64_t meant_cells = 0;
  std::optional<Interval> mean_chosen, mean_plans;  // geometric
  std::optional<Interval> mean_chosen_all;          // over all done cells

  double slowest_chosen = 1;             // by construction at least 1
  const GridCell* best = nullptr;        // by chosen speed-up
  const GridCell* worst_plan = nullptr;  // by measured speed-up of the plan

  // From here on of sound cells alone.
  // |predicted - measured speed-up| of the plans that prefetch.
  std::optional<double> prediction_error_median, prediction_error_worst;
  const GridCell* prediction_worst = nullptr;

  // Of the plans that prefetch.
  std::optional<double> realised_share;         // sum of realised over sum of predicted savings
  std::optional<double> realised_share_median;  // over cells
  const GridCell* realised_worst = nullptr;

  std::optional<double> fidelity_median;
  const GridCell* fidelity_worst = nullptr;  // farthest from 1
};

// The cells that the headline mean is over: batch at most 8 on 4 or 8 ranks.
bool small_and_parallel(const CellKey& key);

// Realised over predicted saving of one sound cell; nothing when nothing was predicted.
std::optional<double> realised_share(const GridCell& cell);

// `cells` must outlive the summary.
GridSummary summarise(std::span<const GridCell> cells);

// "1.043x [1.031, 1.055]".
std::string interval_text(const Interval& interval);

}  // namespace preserve
