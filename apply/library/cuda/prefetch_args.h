// SPDX-License-Identifier: Apache-2.0
// What a prefetch kernel is given, by value: a node owns its parameters, so nothing of ours has to
// outlive it and an update of the executable graph brings new addresses along.
#pragma once

#include <cstdint>

namespace preserve::apply {

inline constexpr uint32_t kMostRanges = 64;  // of one node; more are several nodes

struct PrefetchRange {
  uint64_t address, bytes;  // multiples of 16
};
struct PrefetchArgs {
  const uint32_t* applied;  // the switch, in device memory; 0: nothing is fetched
  uint32_t ranges;
  uint32_t chunk_bytes;  // per bulk request
  PrefetchRange range[kMostRanges];
};

inline constexpr int kPrefetchThreads = 128;

}  // namespace preserve::apply
