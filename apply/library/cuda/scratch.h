// SPDX-License-Identifier: Apache-2.0
// Pages of our own for arrays whose sizes are known beforehand: the program's heap is left alone.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/no_copy.h"

namespace preserve::apply {

class Scratch : NoCopy {
 public:
  ~Scratch() { give_back(); }

  // Zeroed. False when there is no memory; what was taken before is gone either way.
  bool reserve(size_t bytes) {
    give_back();
    void* memory =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    memory_ = static_cast<std::byte*>(memory);
    bytes_ = bytes;
    return true;
  }
  void give_back() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
    memory_ = nullptr;
    bytes_ = used_ = 0;
  }

  template <typename T>
  static constexpr size_t bytes_of(size_t count) {
    return (count * sizeof(std::array<T, 1>) + kAlign - 1) / kAlign * kAlign;
  }
  // Of what was reserved as the sum of bytes_of(); empty when that is used up.
  template <typename T>
  std::span<T> take(size_t count) {
    const size_t bytes = bytes_of<T>(count);
    if (bytes > bytes_ - used_) return {};
    auto* begin = reinterpret_cast<T*>(memory_ + used_);
    used_ += bytes;
    return {begin, count};
  }

 private:
  static constexpr size_t kAlign = 16;
  std::byte* memory_ = nullptr;
  size_t bytes_ = 0, used_ = 0;
};

// Handles of the driver -> numbers, in a table that somebody else has zeroed.
class HandleTable {
 public:
  struct Slot {
    const void* handle;
    uint64_t value;
  };
  static size_t slots(size_t handles) {
    size_t slots = 16;
    while (slots < 2 * handles) slots *= 2;
    return slots;
  }
  explicit HandleTable(std::span<Slot> memory) : slots_(memory) {}

  // The slot of `handle`, or the free one where it belongs.
  Slot& at(const void* handle) {
    size_t i = (reinterpret_cast<uintptr_t>(handle) * 0x9e3779b97f4a7c15u >> 20) % slots_.size();
    while (slots_[i].handle != nullptr && slots_[i].handle != handle) i = (i + 1) % slots_.size();
    return slots_[i];
  }

 private:
  std::span<Slot> slots_;
};

}  // namespace preserve::apply
