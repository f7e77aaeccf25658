// SPDX-License-Identifier: Apache-2.0
// explore.db -> one ExploreReport value, from which every format is written: heat maps of its
// sheets, footprints against the cache, and what a larger cache is worth. All of it is predicted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "db/explore/cells.h"
#include "reports/model/inputs.h"
#include "reports/render.h"

namespace preserve::report {

inline constexpr const char* kExploreReportVersion = "1.0";
inline constexpr size_t kMostCells = 100'000;  // more stay in explore.db, which a warning says

struct ExploreReport {
  InputFile input{};
  bool complete = true;
  std::string figure{};  // footprint, speedup, fused, sensitivity, design; empty: a sweep
  std::vector<ExploreSheet> sheets{};
  std::vector<ExploreCell> cells{};  // by id, cleaned for showing
  std::string sentence{};
  std::vector<std::string> warnings{};
};

// The file, when `paths` are one explore.db; usage_error when there is one among others.
std::optional<InputFile> only_explore(const std::vector<std::filesystem::path>& paths);
ExploreReport build_explore_report(const InputFile& input);

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

double flow_speedup(const ExploreCell& cell);
std::string cell_name(const ExploreCell& cell);  // "llama3-8b int8, TP 4, batch 4, context 16K"
std::string cell_mark(const ExploreCell* cell, double value);  // "1.043", "=", "N/A", "failed", "-"

std::string to_json(const ExploreReport& report);
std::string to_html(const ExploreReport& report);
std::string to_markdown(const ExploreReport& report);
std::string to_csv(const ExploreReport& report);

}  // namespace preserve::report
