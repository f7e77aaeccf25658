// SPDX-License-Identifier: Apache-2.0
// grid.db -> one GridReport value, from which every format is written. As Report does for one step:
// facts only, cleaned for showing. Numbers of the whole are summarise() of the cells
// (db/grid/summary.h), defined in docs/metrics.md.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "db/grid/cells.h"
#include "db/grid/heat_map.h"
#include "db/grid/summary.h"
#include "reports/model/inputs.h"
#include "reports/render.h"
#include "reports/table.h"

namespace preserve::report {

inline constexpr const char* kGridReportVersion = "1.1";

// A cell of two grids. The plans' speed-ups differ when their intervals do not overlap.
struct CellChange {
  CellKey key;
  std::string before, after;                               // heat_mark()
  std::optional<Estimated> speedup_before, speedup_after;  // of the plan, where they count
  std::string word;  // higher, lower, undecided; empty: not measured soundly in both
};
struct GridComparison {
  std::string path, sentence;
  int64_t higher = 0, lower = 0, undecided = 0;
  int64_t only_before = 0, only_after = 0;  // cells that the other grid does not select
  std::vector<CellChange> cells;            // in both: decided ones first, the largest ratio first
};

struct GridReport {
  InputFile input;
  bool complete = true;  // every cell is decided
  std::vector<GridCell> cells;
  // Where and how it was measured, in words: {"Measured on", "NVIDIA H100"}.
  std::vector<std::pair<std::string, std::string>> facts;
  std::string device;       // as the replays name it; empty: nothing measured yet
  std::string collectives;  // in words, all that occur
  bool stand_ins = false;   // some collectives are not what a library did between ranks
  std::string sentence;     // the whole in one
  std::vector<std::string> warnings;
  std::vector<GridComparison> earlier{};  // with the other grids named
};

GridReport build_grid_report(const InputFile& input);

GridComparison compare_grids(const GridReport& before, const GridReport& now);

// Speed-up that the paper publishes for this cell (Table of end-to-end times; 4 x Ascend 910B).
std::optional<double> published_speedup(const CellKey& key);
inline constexpr const char* kPublishedSource =
    "PRESERVE, arXiv 2501.08192: end-to-end time of a whole request on 4 Ascend 910B with 192 MiB "
    "of L2, int8, batch 4, maximum length 16K";

const CellArm* arm_of(const GridCell& cell, std::string_view name);
std::string ratio_text(const std::optional<Estimated>& ratio);  // "1.043x [1.031, 1.055]"

// Fidelity, prediction error, realised saving, slowest plan and mean over all cells; what was not
// measured says so.
Table finding_table(const GridSummary& summary);

Table comparison_table(const GridComparison& comparison);

std::string to_json(const GridReport& report);
std::string to_html(const GridReport& report);
std::string to_markdown(const GridReport& report);
std::string to_csv(const GridReport& report);
std::string changes_csv(const GridReport& report);  // a row per cell and earlier grid

}  // namespace preserve::report
