// SPDX-License-Identifier: Apache-2.0
// What preserve-replay --grid says: a line per cell, and at the end heat maps, the geometric mean
// and the extremes. Pure text from cells.
#pragma once

#include <span>
#include <string>

#include "db/grid/cells.h"

namespace preserve {

// "llama3-8b fp16 tp4 batch 8 context 16K: 1.043x [1.038, 1.047], prefetch".
std::string cell_line(const GridCell& cell);

// One table per model and type: rows batch, columns ranks and context, chosen speed-up in each
// cell.
std::string heat_map_text(std::span<const GridCell> cells);

// Counts, means and extremes.
std::string grid_summary_text(std::span<const GridCell> cells);

}  // namespace preserve
