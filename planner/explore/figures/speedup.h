// SPDX-License-Identifier: Apache-2.0
// Speed-up of both strategies by batch and context, and at the published points with the time of an
// allreduce at which they would come out; and the same against overlapped product and allreduce.
#pragma once

#include "planner/explore/figures/figure.h"

namespace preserve {

std::vector<SweepSheet> speedup_sheets();
std::string speedup_text(const Sweep& sweep, const std::vector<std::vector<ExploreCell>>& cells);

// "fused": step with overlapped product and allreduce over the step with prefetching.
std::vector<SweepSheet> fused_sheets();
std::string fused_text(const Sweep& sweep, const std::vector<std::vector<ExploreCell>>& cells);

}  // namespace preserve
