// SPDX-License-Identifier: Apache-2.0
// A device with another cache, memory, arithmetic or network than its file says. The rules, which
// docs/explore.md states and gives reasons for:
//   cache       the budget and the footprints of the survival curve grow with the capacity, so a
//               given share of it survives as on the device; bandwidths stay
//   memory      capacity alone; bandwidth also scales the methods' bandwidth of prefetching
//   arithmetic  all rates by one factor
//   network     an allreduce lasts latency + 2 (N - 1) / N x message / bandwidth, an allgather
//               latency + (N - 1) x share / bandwidth
// With another memory bandwidth or arithmetic the measured operator tables no longer hold:
// operators are rooflines then.
#pragma once

#include "planner/explore/cell/point.h"

namespace preserve {

DeviceModel changed_device(const ExplorePoint& point);

// With the point's kv_heads and whole_context.
ModelConfig changed_model(const ExplorePoint& point);

}  // namespace preserve
