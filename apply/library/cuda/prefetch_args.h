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
// In device memory, of one context; read at once. Only what is written to `ended` stays for good:
// writes to `applied` come from several streams, in no order.
struct alignas(8) PrefetchSwitch {
  uint32_t applied;  // 0: nothing is fetched
  uint32_t ended;    // 1: nothing is, whatever is written to the other
};
struct PrefetchArgs {
  const PrefetchSwitch* applied;
  uint32_t ranges;
  uint32_t chunk_bytes;  // per bulk request
  PrefetchRange range[kMostRanges];
};

inline constexpr int kPrefetchThreads = 128;

}  // namespace preserve::apply
