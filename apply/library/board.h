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
  // Of the ranks of the job on this host, how many have called MPI_Init, and how many could
  // convert.
  std::atomic<uint32_t> ranks{0}, ready{0};
  std::atomic<uint64_t> communicator{0};  // whose collectives are followed alone; 0: none yet
  std::atomic<bool> failed{false};        // a call in place of the program's, on some rank
  std::atomic<uint64_t> cores[16]{};      // that ranks work on, one bit each

  // The communicator whose collectives all ranks follow: the first that any of them asks for.
  uint64_t follow(uint64_t asked) {
    uint64_t none = 0;
    return communicator.compare_exchange_strong(none, asked) ? asked : none;
  }

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
