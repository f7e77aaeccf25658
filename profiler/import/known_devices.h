// SPDX-License-Identifier: Apache-2.0
// Published figures of accelerators, for traces that name the device but say nothing else about it.
// Vendor data sheets; the cache is the last level that memory traffic passes (L2, or the
// memory-side cache of CDNA3).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace preserve::import {

struct KnownDevice {
  int64_t cache_bytes = 0;
  int64_t memory_bandwidth_bytes_per_s = 0;
};

// By marketing name as drivers report it ("NVIDIA H100 80GB HBM3"), whole words only: an RTX A4000
// is no A40. `memory_bytes` tells variants apart. Nothing for mobile and partitioned devices that
// have no line of their own.
std::optional<KnownDevice> known_device(std::string_view name, std::optional<int64_t> memory_bytes);

}  // namespace preserve::import
