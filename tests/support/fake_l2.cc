// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_l2.h"

#include <algorithm>

namespace preserve::test {

FakeL2::FakeL2(int64_t block_bytes, int64_t capacity_bytes, int64_t set_aside_bytes)
    : block_bytes_(block_bytes),
      capacity_blocks_(capacity_bytes / block_bytes),
      set_aside_blocks_(set_aside_bytes / block_bytes) {}

int FakeL2::halves_with(GpuAddress address) const {
  const auto found = blocks_.find(address / static_cast<GpuAddress>(block_bytes_));
  return found == blocks_.end() ? 0 : found->second->halves;
}

void FakeL2::touch(GpuAddress address, GpuEviction eviction, int halves) {
  const GpuAddress number = address / static_cast<GpuAddress>(block_bytes_);
  const bool last = eviction == GpuEviction::last && set_aside_blocks_ > 0;
  const auto found = blocks_.find(number);
  if (found == blocks_.end()) {
    List& list = last ? persisting_ : normal_;
    list.push_front({number, halves, last});
    blocks_[number] = list.begin();
  } else {
    Block& block = *found->second;
    List& from = block.persisting ? persisting_ : normal_;
    block.persisting = block.persisting || last;
    List& to = block.persisting ? persisting_ : normal_;
    to.splice(to.begin(), from, found->second);
  }
  fit();
}

void FakeL2::fit() {
  while (static_cast<int64_t>(persisting_.size()) > set_aside_blocks_) {
    persisting_.back().persisting = false;
    normal_.splice(normal_.begin(), persisting_, std::prev(persisting_.end()));
  }
  while (static_cast<int64_t>(normal_.size() + persisting_.size()) > capacity_blocks_) {
    List& victims = normal_.empty() ? persisting_ : normal_;
    blocks_.erase(victims.back().number);
    victims.pop_back();
  }
}

void FakeL2::set_set_aside(int64_t bytes) {
  set_aside_blocks_ = bytes / block_bytes_;
  fit();
}

void FakeL2::demote_all() {
  for (Block& block : persisting_) block.persisting = false;
  normal_.splice(normal_.begin(), persisting_);
}

int64_t FakeL2::cached_bytes(GpuRange range) const {
  int64_t bytes = 0;
  const GpuAddress end = range.address + static_cast<GpuAddress>(range.bytes);
  const auto size = static_cast<GpuAddress>(block_bytes_);
  for (GpuAddress at = range.address; at < end;) {
    const GpuAddress next = std::min(end, (at / size + 1) * size);
    if (halves_with(at) != 0) bytes += static_cast<int64_t>(next - at);
    at = next;
  }
  return bytes;
}

}  // namespace preserve::test
