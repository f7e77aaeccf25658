// SPDX-License-Identifier: Apache-2.0
// The capacity of the cache that gives the most throughput per area and per cost, with and without
// prefetching, and how it depends on what is assumed.
#pragma once

#include "planner/explore/figures/figure.h"

namespace preserve {

std::vector<SweepSheet> design_sheets();
std::string design_text(const Sweep& sweep, const std::vector<std::vector<ExploreCell>>& cells);

}  // namespace preserve
