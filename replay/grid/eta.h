// SPDX-License-Identifier: Apache-2.0
// How long the rest of a grid takes. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "db/grid/cells.h"

namespace preserve {

// Cells are of two kinds, measured ones that take seconds and others that take none: the median of
// each kind, in the proportion seen so far, so that one cell that hung moves nothing. Nothing
// before the first cell is finished.
std::optional<double> remaining_ns(std::span<const GridCell> cells, int64_t cells_left);

// "about 40 s", "about 12 min", "about 3 h 20 min".
std::string remaining_text(double dur_ns);

}  // namespace preserve
