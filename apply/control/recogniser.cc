// SPDX-License-Identifier: Apache-2.0
#include "apply/control/recogniser.h"

namespace preserve::apply {
namespace {

bool agree_on_bytes(int64_t a, int64_t b) {
  return a == b || a == kAnyBytes || b == kAnyBytes;
}
bool agree_on_messages(uint8_t a, uint8_t b) {
  return a == b || a == kEither || b == kEither;
}
bool alike(const PlanCollective& a, const PlanCollective& b) {
  return a.function == b.function && a.ranks == b.ranks && a.type_name() == b.type_name() &&
         agree_on_bytes(a.bytes, b.bytes) && agree_on_messages(a.after_messages, b.after_messages);
}

std::optional<Surprise> difference(const PlanCollective& expected, const Collective& seen) {
  if (expected.function != seen.function) return Surprise::function;
  if (expected.ranks != seen.ranks) return Surprise::communicator;
  if (expected.type_name() != seen.type) return Surprise::type;
  if (!agree_on_bytes(expected.bytes, seen.bytes)) return Surprise::bytes;
  if (!agree_on_messages(expected.after_messages, seen.after_messages ? kYes : kNo)) {
    return Surprise::messages;
  }
  return std::nullopt;
}

}  // namespace

Recogniser::Recogniser(std::span<const PlanCollective> step, std::span<uint32_t> memory)
    : step_(step),
      size_(static_cast<uint32_t>(step.size())),
      symbols_(memory.first(size_)),
      borders_(memory.subspan(size_, 2 * size_ + 1)) {
  for (uint32_t i = 0; i < size_; ++i) {
    symbols_[i] = i;
    for (uint32_t j = 0; j < i; ++j) {
      if (symbols_[j] == symbols_[i] || !alike(step_[i], step_[j])) continue;
      const uint32_t kept = symbols_[j] < symbols_[i] ? symbols_[j] : symbols_[i];
      const uint32_t merged = symbols_[j] < symbols_[i] ? symbols_[i] : symbols_[j];
      for (uint32_t k = 0; k <= i; ++k) {
        if (symbols_[k] == merged) symbols_[k] = kept;
      }
    }
  }
  borders_[0] = 0;
  borders_[1] = 0;
  uint32_t border = 0;
  for (uint32_t length = 2; length <= 2 * size_; ++length) {
    const uint32_t symbol = at(length - 1);
    while (border > 0 && at(border) != symbol) border = borders_[border];
    if (at(border) == symbol) ++border;
    borders_[length] = border;
  }
  const uint32_t period = size_ - borders_[size_];
  ambiguous_ = period < size_ && size_ % period == 0;
}

uint32_t Recogniser::symbol_of(const Collective& collective) const {
  for (uint32_t i = 0; i < size_; ++i) {
    if (!difference(step_[i], collective)) return symbols_[i];
  }
  return kNoSymbol;
}

bool Recogniser::search(uint32_t symbol) {
  if (symbol == kNoSymbol) {
    matched_ = 0;
    return false;
  }
  if (matched_ == 2 * size_) matched_ = borders_[matched_];
  while (matched_ > 0 && at(matched_) != symbol) matched_ = borders_[matched_];
  if (at(matched_) == symbol) ++matched_;
  return matched_ == 2 * size_;
}

Recogniser::Seen Recogniser::next(const Collective& collective) {
  Seen seen;
  if (ambiguous_) return seen;
  if (locked_) {
    seen.surprise = difference(step_[next_], collective);
    if (!seen.surprise) {
      seen.position = next_;
      next_ = next_ + 1 == size_ ? 0 : next_ + 1;
      return seen;
    }
    locked_ = false;
    matched_ = size_ + next_;  // what has been seen ends in a whole step and these
  }
  if (search(symbol_of(collective))) {
    locked_ = seen.locks = true;
    next_ = 0;
  }
  return seen;
}

void Recogniser::forget() {
  locked_ = false;
  matched_ = 0;
}

}  // namespace preserve::apply
