// SPDX-License-Identifier: Apache-2.0
// Tables of text for the figures.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "db/explore/cells.h"

namespace preserve {

// Rows of equally many columns, the first row above a gap; the first column on the left edge, the
// others on the right one.
std::string text_table(const std::vector<std::vector<std::string>>& rows);

// "1.234", or "N/A" where the cell is not available.
std::string ratio_text(const ExploreCell& cell, double ExploreCell::*over,
                       double ExploreCell::*under);

// One table per group of cells with equal `group`, in their order: rows batch, columns context.
std::string batch_context_maps(const std::vector<ExploreCell>& cells,
                               const std::function<std::string(const ExploreCell&)>& group,
                               const std::function<std::string(const ExploreCell&)>& value);

std::string tokens_text(int64_t context);  // "16K"

}  // namespace preserve
