// SPDX-License-Identifier: Apache-2.0
// The condition of --fail-if, the same in every tool: slower=N%.
#pragma once

#include <string>

#include "common/stats.h"

namespace preserve {

// "slower=5%" -> 0.05, the share by which the tuned step may be slower. usage_error for all else.
double parse_slower(const std::string& condition);

// The whole interval of a speedup must say so: noise fails nothing.
bool surely_slower(const Interval& speedup, double share);

}  // namespace preserve
