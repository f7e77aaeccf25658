// SPDX-License-Identifier: Apache-2.0
// A list of slices that is fetched piece by piece. Header-only and free of exceptions, allocations,
// locks and system calls: it also runs inside a foreign process, between two turns of the MPI
// library's progress engine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "replay/cpu/fetch_method.h"

namespace preserve {

struct FetchSlice {
  const std::byte* begin = nullptr;
  int64_t bytes = 0;
};

// Not thread-safe: one thread at a time.
class FetchCursor {
 public:
  FetchCursor() = default;
  // At the first byte. `slices` must stay valid while it is used.
  explicit FetchCursor(std::span<const FetchSlice> slices) noexcept : slices_(slices) {}

  // Fetches the next piece, at most `chunk_bytes` (positive) of one slice; false when nothing is
  // left.
  bool step(FetchFunction fetch, int64_t chunk_bytes) noexcept {
    for (; slice_ < slices_.size(); ++slice_, offset_bytes_ = 0) {
      const FetchSlice& slice = slices_[slice_];
      const int64_t bytes = std::min(chunk_bytes, slice.bytes - offset_bytes_);
      if (bytes <= 0) continue;
      fetch(slice.begin + offset_bytes_, bytes);
      offset_bytes_ += bytes;
      fetched_bytes_ += bytes;
      return true;
    }
    return false;
  }
  int64_t fetched_bytes() const noexcept { return fetched_bytes_; }

 private:
  std::span<const FetchSlice> slices_;
  size_t slice_ = 0;
  int64_t offset_bytes_ = 0, fetched_bytes_ = 0;
};

}  // namespace preserve
