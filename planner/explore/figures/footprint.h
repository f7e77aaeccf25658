// SPDX-License-Identifier: Apache-2.0
// Bytes that one layer reads on each device, halves apart, and which caches hold them.
#pragma once

#include "planner/explore/figures/figure.h"

namespace preserve {

std::vector<SweepSheet> footprint_sheets();
std::string footprint_text(const Sweep& sweep, const std::vector<std::vector<ExploreCell>>& cells);

}  // namespace preserve
