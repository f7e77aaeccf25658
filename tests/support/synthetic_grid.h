// SPDX-License-Identifier: Apache-2.0
// A grid.db made from numbers: two models of the paper on 4 and 8 ranks, with cells of every
// status, plans that win, lose and do not decide, and the overlap arm where the paper compares with
// it.
#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "db/grid/cells.h"
#include "db/trace_db.h"

namespace preserve::test {

// All of one cell that was measured: plan and measurement agree, the interval is 1 % wide.
GridCell measured_cell(const CellKey& key, double speedup);

// llama3-8b and llama3-70b x int8 and fp16 x 4 and 8 ranks x batch 1, 8, 64 x 4K, 16K.
std::vector<GridCell> synthetic_cells();

// Writes a finished file at `path`, replacing it. `tweak` runs before finish().
void write_synthetic_grid(const std::filesystem::path& path,
                          const std::vector<GridCell>& cells = synthetic_cells(),
                          const std::function<void(TraceDb&)>& tweak = {});

}  // namespace preserve::test
