// SPDX-License-Identifier: Apache-2.0
// A graph's data for the device: one block of bytes, built on the host and copied once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "replay/cuda/kernels/device_types.h"
#include "replay/gpu/device.h"

namespace preserve::cuda {

// Places things one after another, each aligned, and remembers where.
class DeviceImage {
 public:
  // Offset of `bytes` zeros. alignment: a power of two, at most 256 (what cudaMalloc gives).
  size_t add(size_t bytes, size_t alignment);
  // A RangeTable over `ranges` in their order, dealt in units of unit_bytes; its offset.
  // whole_lines: ranges grow to the cache lines that they lie in. internal_error for a range that
  // is not aligned to 16 bytes.
  size_t add_table(std::span<const GpuRange> ranges, uint64_t unit_bytes, bool whole_lines);

  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace preserve::cuda
