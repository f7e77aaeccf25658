// SPDX-License-Identifier: Apache-2.0
// Whether a node of a graph can begin when another has begun. CUDA calls such edges best effort.
#pragma once

#include <string>

#include "replay/gpu/plan.h"

namespace preserve {

// What happens instead, in words; empty: it begins. Tried on the device.
std::string start_edge_problem(GpuDevice& device);

// Arms whose prefetches were to begin after the collective's start become leaves, with a warning,
// where such edges do not work: they would fetch when the window is over.
void settle_starts(GpuDevice& device, GpuPlan& plan);

}  // namespace preserve
