// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "replay/gpu/device.h"

namespace preserve::cuda {

// By SM: 1 or 2, the half of L2 that it is nearer to; empty where the SMs do not fall into two
// groups. Takes some tens of milliseconds.
std::vector<int> measure_sm_halves(const GpuFacts& facts);

}  // namespace preserve::cuda
