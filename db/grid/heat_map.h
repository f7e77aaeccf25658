// SPDX-License-Identifier: Apache-2.0
// The cells of a grid as tables of speed-ups: the terminal's and the report's.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "db/grid/cells.h"

namespace preserve {

// One heat map: cells of one model and type, found by row (batch) and column (ranks, context).
struct HeatMap {
  std::string model, dtype;
  std::vector<int64_t> batches;
  std::vector<std::pair<int64_t, std::vector<int64_t>>> columns;  // contexts by ranks
  std::vector<std::vector<const GridCell*>> rows;  // [batch][column]; nullptr: not selected
};
// In the order of the cells; `cells` must outlive them.
std::vector<HeatMap> heat_maps(std::span<const GridCell> cells);

// The text of a cell: "1.043", "=", "N/A", "failed" or "-".
std::string heat_mark(const GridCell& cell);

}  // namespace preserve
