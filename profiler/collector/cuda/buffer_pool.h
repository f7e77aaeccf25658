// SPDX-License-Identifier: Apache-2.0
// Buffers that CUPTI fills with activity records. CUPTI asks for one on the program's own threads,
// so asking is lock-free and the first buffers are there, touched and zeroed, before the program
// runs.
//
//   free -> lent (acquire) -> full (complete) -> free (drain: read, zeroed)
//
// Memory: never more than buffers x buffer_bytes. When all are lent or unread, acquire() gives
// none, and counts it. CUPTI before 12.9 crashes on none: it gets the one discard buffer, whose
// content is never read.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace preserve::cuda {

class BufferPool {
 public:
  static constexpr size_t kMaxBuffers = 256;

  // `ready` of the `buffers` are mapped and touched now. `discards`: whoever asks cannot do without
  // a buffer. False when not even one could be mapped.
  bool open(size_t buffers, size_t buffer_bytes, size_t ready, bool discards);
  size_t buffer_bytes() const { return bytes_; }
  size_t limit_bytes() const { return count_ * bytes_; }

  // --- any thread ---
  // Zeroed memory of buffer_bytes(); nullptr when there is none, never for those who cannot do
  // without.
  uint8_t* acquire();
  // `valid_bytes` of a buffer from acquire() are filled.
  void complete(uint8_t* buffer, size_t valid_bytes);
  // From now on none, or the discard buffer, uncounted: the recording is over.
  void close() { closed_.store(true, std::memory_order_release); }

  // --- one thread: the writer ---
  // Calls read(bytes, valid) for each full buffer, then zeroes and frees it. Returns how many.
  template <typename Read>
  size_t drain(Read read) {
    size_t drained = 0;
    for (size_t i = 0; i < count_; ++i) {
      Slot& slot = slots_[i];
      if (slot.state.load(std::memory_order_acquire) != kFull) continue;
      read(slot.memory.load(std::memory_order_relaxed), slot.valid_bytes);
      release(slot);
      ++drained;
    }
    return drained;
  }
  uint64_t take_discarded() { return discarded_.exchange(0, std::memory_order_relaxed); }
  size_t mapped_bytes() const { return mapped_.load(std::memory_order_relaxed); }

 private:
  enum State : uint32_t { kFree, kLent, kFull };
  struct Slot {
    std::atomic<uint32_t> state{kFree};
    std::atomic<uint8_t*> memory{nullptr};
    size_t valid_bytes = 0;
  };
  uint8_t* map();
  void release(Slot& slot);

  Slot slots_[kMaxBuffers];
  size_t count_ = 0, bytes_ = 0;
  uint8_t* discard_ = nullptr;
  std::atomic<uint64_t> discarded_{0};
  std::atomic<size_t> mapped_{0};
  std::atomic<bool> closed_{false};
};

}  // namespace preserve::cuda
