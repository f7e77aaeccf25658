// SPDX-License-Identifier: Apache-2.0
// The allocations that graphs fetch from, so that of the many that a program frees nearly all cost
// it a binary search.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "apply/library/cuda/scratch.h"

namespace preserve::apply {

class FollowedMemory {
 public:
  // Allocations that begin in these bytes are gone. Whether any of them may be followed.
  bool free(CUdeviceptr begin, uint64_t bytes) {
    frees_[free_count_++ % kRemembered] = {begin, bytes};
    return !known_ || begins_in(all_, {begin, bytes});
  }

  uint64_t free_count() const { return free_count_; }
  // Whether any of `allocations`, ascending, may be gone by a free since there were `count`.
  bool freed_since(uint64_t count, std::span<const CUdeviceptr> allocations) const {
    if (free_count_ - count > kRemembered) return true;
    for (; count < free_count_; ++count) {
      if (begins_in(allocations, frees_[count % kRemembered])) return true;
    }
    return false;
  }

  bool follows(std::span<const CUdeviceptr> allocations) const {
    return !known_ ||
           std::includes(all_.begin(), all_.end(), allocations.begin(), allocations.end());
  }
  // All that are followed from now on: `each` calls what it is given for every list of them.
  template <typename Each>
  void follow(Each each) {
    size_t count = 0;
    each([&](std::span<const CUdeviceptr> list) { count += list.size(); });
    all_ = {};
    // Without the memory any free may be of one that is followed.
    known_ = count == 0 || memory_.reserve(Scratch::bytes_of<CUdeviceptr>(count));
    if (count == 0 || !known_) return;
    all_ = memory_.take<CUdeviceptr>(count);
    size_t place = 0;
    each([&](std::span<const CUdeviceptr> list) {
      std::copy(list.begin(), list.end(), all_.begin() + place);
      place += list.size();
    });
    std::sort(all_.begin(), all_.end());
    all_ = all_.first(static_cast<size_t>(std::unique(all_.begin(), all_.end()) - all_.begin()));
  }

  struct Range {
    CUdeviceptr begin;
    uint64_t bytes;
  };
  static bool begins_in(std::span<const CUdeviceptr> allocations, Range range) {
    const auto first = std::lower_bound(allocations.begin(), allocations.end(), range.begin);
    return first != allocations.end() && *first - range.begin < range.bytes;
  }

 private:
  static constexpr uint64_t kRemembered = 4096;  // while a graph is edited
  Range frees_[kRemembered] = {};
  uint64_t free_count_ = 0;
  bool known_ = true;
  Scratch memory_;
  std::span<CUdeviceptr> all_;  // ascending
};

}  // namespace preserve::apply
