// SPDX-License-Identifier: Apache-2.0
// explore.db -> one ExploreReport value, from which every format is written: heat maps of its
// sheets, footprints against the cache, and what a larger cache is worth. All of it is predicted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "db/explore/cells.h"
#include "reports/model/inputs.h"
#include "reports/render.h"
#include "reports/table.h"

namespace preserve::report {

inline constexpr const char* kExploreReportVersion = "1.1";
inline constexpr size_t kMostCells = 100'000;  // more stay in explore.db, which a warning says

// A cell that is done in two explorations.
struct ExploreChange {
  std::string name{};  // with the values that tell it from the others
  double baseline_before_ns = 0, baseline_after_ns = 0;
  double flow_before_ns = 0, flow_after_ns = 0;

  double speedup_before() const { return baseline_before_ns / flow_before_ns; }
  double speedup_after() const { return baseline_after_ns / flow_after_ns; }
  double flow_ratio() const { return flow_before_ns / flow_after_ns; }  // above 1: faster now
};
struct ExploreComparison {
  std::string path{}, sentence{};
  int64_t only_before = 0, only_after = 0;  // cells that are done in one alone
  std::vector<ExploreChange> cells{};       // the largest change of the step with flow first
};

struct ExploreReport {
  InputFile input{};
  bool complete = true;
  std::string figure{};  // footprint, speedup, fused, sensitivity, design; empty: a sweep
  std::vector<ExploreSheet> sheets{};
  std::vector<ExploreCell> cells{};  // by id, cleaned for showing
  std::string sentence{};
  std::vector<std::string> warnings{};
  std::vector<ExploreComparison> earlier{};  // with the other explorations named
};

ExploreReport build_explore_report(const InputFile& input);

// Cells meet by what either exploration varies; what each keeps fixed may differ: it is the change.
ExploreComparison compare_explorations(const ExploreReport& before, const ExploreReport& now);
Table comparison_table(const ExploreComparison& comparison);

// A sheet's cells by two of its axes; the values of the other axes are in the title.
struct ExploreMap {
  std::string title{}, row_key{}, column_key{};
  std::vector<std::string> rows{}, columns{};
  std::vector<std::vector<const ExploreCell*>> cells{};  // [row][column]; null: not reached
};
// By batch and context where both vary, else by the two innermost axes that do. At most `most`;
// `report` must outlive them.
std::vector<ExploreMap> explore_maps(const ExploreReport& report, size_t most);

// Devices that differ in the capacity of their cache alone, by that capacity.
struct CapacityCurve {
  std::string name;
  bool per_area = false;  // tokens/s per mm2, else tokens/s: no area is known
  std::vector<const ExploreCell*> cells;
  // Index of the best one without prefetching and with strategy flow.
  size_t best_baseline = 0, best_flow = 0;
};
std::vector<CapacityCurve> capacity_curves(const ExploreReport& report);
// Tokens per second, per mm2 where the curve is.
double density(const CapacityCurve& curve, const ExploreCell& cell, double step_ns);

// A value of an axis as people write it; files hold base units.
std::string value_text(const std::string& key, const std::string& word);
double flow_speedup(const ExploreCell& cell);
std::string cell_name(const ExploreCell& cell);  // "llama3-8b int8, TP 4, batch 4, context 16K"
std::string cell_mark(const ExploreCell* cell, double value);  // "1.043", "=", "N/A", "failed", "-"

std::string to_json(const ExploreReport& report);
std::string to_html(const ExploreReport& report);
std::string to_markdown(const ExploreReport& report);
std::string to_csv(const ExploreReport& report);
std::string changes_csv(const ExploreReport& report);  // a row per cell and earlier exploration

}  // namespace preserve::report
