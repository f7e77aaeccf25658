// SPDX-License-Identifier: Apache-2.0
// Names for memory that the program does not name, which are the same in every run of a program
// that allocates in the same order: "allocation.<bytes>.<n>", the n-th (from 0) of the living
// allocations of exactly that size; a new one takes the lowest number that is free. Holds the
// living allocations in memory of its own; not synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string_view>

namespace preserve::hooks {

inline constexpr std::string_view kAllocationPrefix = "allocation.";
// Smaller ones fit into a cache anyway, and programs have too many of them.
inline constexpr size_t kLeastAllocationBytes = size_t{256} << 10;

struct Allocation {
  uint64_t begin = 0, bytes = 0;
  uint32_t number = 0;  // among those of its size
  int protection = 0;   // PROT_*
};
using AllocationName = char[48];

class Allocations {
 public:
  static constexpr uint32_t kMost = 1024;

  // nullptr when there are too many; `added` is not followed then.
  const Allocation* add(uint64_t begin, uint64_t bytes, int protection) {
    if (size_ == kMost) return nullptr;
    uint64_t taken[kMost / 64] = {};
    for (uint32_t i = 0; i < size_; ++i) {
      const uint32_t number = living_[i].number;
      if (living_[i].bytes == bytes) taken[number / 64] |= uint64_t{1} << number % 64;
    }
    uint32_t number = 0;
    while ((taken[number / 64] >> number % 64 & 1) != 0) ++number;
    living_[size_] = {begin, bytes, number, protection};
    return &living_[size_++];
  }
  // Those that overlap, each handed to `forgotten` before it is gone.
  template <typename F>
  void remove(uint64_t begin, uint64_t bytes, F forgotten) {
    for (uint32_t i = size_; i-- > 0;) {
      const Allocation& found = living_[i];
      // An unknown end reaches to the last address.
      const bool before = found.begin + found.bytes <= begin;
      const bool after = found.begin >= begin && found.begin - begin >= bytes;
      if (before || after) continue;
      forgotten(found);
      living_[i] = living_[--size_];
    }
  }
  const Allocation* begin() const { return living_; }
  const Allocation* end() const { return living_ + size_; }

  static std::string_view name(const Allocation& allocation, AllocationName& room) {
    const int length =
        std::snprintf(room, sizeof(room), "allocation.%llu.%u",
                      static_cast<unsigned long long>(allocation.bytes), allocation.number);
    return {room, static_cast<size_t>(length)};
  }

 private:
  Allocation living_[kMost];
  uint32_t size_ = 0;
};

}  // namespace preserve::hooks
