// SPDX-License-Identifier: Apache-2.0
// What the speed-up depends on, one thing at a time.
#pragma once

#include "planner/explore/figures/figure.h"

namespace preserve {

std::vector<SweepSheet> sensitivity_sheets();
std::string sensitivity_text(const Sweep& sweep,
                             const std::vector<std::vector<ExploreCell>>& cells);

}  // namespace preserve
