// SPDX-License-Identifier: Apache-2.0
// Finds the planned step in the sequence of a program's collectives. Locks when two whole
// repetitions have followed each other, unlocks at the first collective that is not the next one of
// the step, and searches on. Allocates nothing after construction; not synchronised.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "apply/outcome_file.h"
#include "apply/plan_file.h"

namespace preserve::apply {

struct Collective {
  int64_t bytes = -1;  // -1: unknown
  uint32_t ranks = 0;
  uint16_t function = 0;
  std::string_view type{};
  bool after_messages = false;  // point-to-point calls since the collective before
  uint64_t communicator = 0;    // equal on all its ranks; 0: unknown
};

class Recogniser {
 public:
  // Both must live on. `memory` has room for memory_entries(step.size()).
  Recogniser(std::span<const PlanCollective> step, std::span<uint32_t> memory);
  static size_t memory_entries(size_t collectives) { return 3 * collectives + 1; }

  // The step repeats within itself (AAAA, ABAB): nothing tells where it begins. Never locks then.
  bool is_ambiguous() const { return ambiguous_; }

  struct Seen {
    std::optional<uint32_t> position{};  // in the step, while locked
    std::optional<Surprise> surprise{};  // it was locked until this collective
    bool locks = false;                  // with this one; the next should be position 0
  };
  Seen next(const Collective& collective);
  bool is_locked() const { return locked_; }
  // Whether the step has such a collective.
  bool knows(const Collective& collective) const { return symbol_of(collective) != kNoSymbol; }
  // Begins anew, as if nothing had been seen.
  void forget();

 private:
  static constexpr uint32_t kNoSymbol = UINT32_MAX;
  uint32_t symbol_of(const Collective& collective) const;
  uint32_t at(uint32_t index) const { return symbols_[index < size_ ? index : index - size_]; }
  bool search(uint32_t symbol);

  std::span<const PlanCollective> step_;
  uint32_t size_;  // of the step
  // The step twice is searched for as by Knuth, Morris and Pratt (1977), in classes of collectives
  // that one call may belong to at once: an entry for any size makes one class with all like it.
  std::span<uint32_t> symbols_;  // of each collective of the step: the first of its class
  std::span<uint32_t> borders_;  // of each prefix of step + step: its longest border
  uint32_t matched_ = 0;         // collectives of step + step that the last ones seen agree with
  uint32_t next_ = 0;            // position, while locked
  bool locked_ = false, ambiguous_ = false;
};

}  // namespace preserve::apply
