// SPDX-License-Identifier: Apache-2.0
// The simulated GPU's second-level cache: blocks in the order of their last use, and next to them
// those that were asked to be evicted last, as long as the set-aside has room for them.
#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>

#include "replay/gpu/device.h"

namespace preserve::test {

class FakeL2 {
 public:
  FakeL2(int64_t block_bytes, int64_t capacity_bytes, int64_t set_aside_bytes);

  // Bits of the halves (1, 2) that have the block of this address; 0: it is not cached.
  int halves_with(GpuAddress address) const;
  // Uses the block of this address, bringing it in where it is not cached. `halves` as above.
  void touch(GpuAddress address, GpuEviction eviction, int halves);
  void set_set_aside(int64_t bytes);
  void demote_all();  // persisting blocks become normal ones, the most recently used

  int64_t block_bytes() const { return block_bytes_; }
  int64_t set_aside_bytes() const { return set_aside_blocks_ * block_bytes_; }
  int64_t cached_bytes(GpuRange range) const;

 private:
  struct Block {
    GpuAddress number = 0;
    int halves = 0;
    bool persisting = false;
  };
  using List = std::list<Block>;  // most recently used first

  void fit();

  int64_t block_bytes_ = 0, capacity_blocks_ = 0, set_aside_blocks_ = 0;
  List normal_, persisting_;
  std::unordered_map<GpuAddress, List::iterator> blocks_;
};

}  // namespace preserve::test
