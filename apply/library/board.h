// SPDX-License-Identifier: Apache-2.0
// What the ranks of one job share on one host, in a file that they all map: who decides, and what
// was decided. No rank waits for another.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "apply/control/guard.h"

namespace preserve::apply {

struct Board {
  std::atomic<uint32_t> leader{0};    // rank + 1; 0: none yet
  std::atomic<uint64_t> decision{0};  // packed; 0: none yet

  // Whether this rank decides. The first to ask does.
  bool lead(uint32_t rank) {
    uint32_t nobody = 0;
    return leader.compare_exchange_strong(nobody, rank + 1) || nobody == rank + 1;
  }
  // Off stays.
  void publish(const Decision& made) {
    uint64_t before = decision.load(std::memory_order_relaxed);
    while (Decision::unpacked(before).state != State::off &&
           !decision.compare_exchange_weak(before, made.packed(), std::memory_order_release)) {
    }
  }
  std::optional<Decision> read() const {
    const uint64_t word = decision.load(std::memory_order_acquire);
    if (word == 0) return std::nullopt;
    return Decision::unpacked(word);
  }
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

}  // namespace preserve::apply
