// SPDX-License-Identifier: Apache-2.0
// A byte ring between one recording thread and the writer thread: no locks, no system calls (but
// in a signal handler that interrupts a record), records always contiguous (a pad record fills the
// rest before the end). Owns nothing: the memory is given.
//
// A signal handler may record while its thread is between reserve() and publish(): refused too. A
// handler that jumps out of there leaves nothing behind: whoever reserves from a frame that is not
// below the interrupted one, and not on the stack of signal handlers while that one is elsewhere,
// has not interrupted it. Where the kernel does not tell of such a stack, nor has one from a frame
// close above.
//
// Full means refused, never overwritten. `keep` bytes stay free for records that must not be
// refused later: every accepted push keeps room for its pop, so ranges stay balanced.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "profiler/spool.h"

namespace preserve::collector {

class Ring {
 public:
  // size_bytes: a power of two, at least 4 KiB; memory aligned to 8.
  void attach(char* memory, size_t size_bytes) {
    memory_ = memory;
    size_ = size_bytes;
    restart();
  }
  // Empty again, for another thread. Memory and size stay: others may look at them meanwhile.
  void restart() {
    head_ = tail_seen_ = 0;
    writing_.store(0, std::memory_order_relaxed);
    published_.store(0, std::memory_order_relaxed);
    consumed_.store(0, std::memory_order_relaxed);
  }
  size_t size_bytes() const { return size_; }

  // --- recording thread ---
  // Space for a record of `bytes` (multiple of 8), or nullptr when `bytes` + `keep` do not fit or
  // another record is being written.
  char* reserve(size_t bytes, size_t keep) {
    const auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    const uintptr_t begun = writing_.load(std::memory_order_relaxed);
    if (__builtin_expect(begun != 0, 0) && interrupts(frame, begun)) return nullptr;
    writing_.store(frame, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const size_t offset = head_ & (size_ - 1);
    const size_t to_end = size_ - offset;
    const size_t pad = bytes > to_end ? to_end : 0;
    // Later records of the reserve may need a pad as well: at most one, smaller than a record.
    if (head_ + pad + bytes + keep > tail_seen_ + size_) {
      tail_seen_ = consumed_.load(std::memory_order_acquire);
      if (head_ + pad + bytes + keep > tail_seen_ + size_) {
        writing_.store(0, std::memory_order_relaxed);
        return nullptr;
      }
    }
    if (pad == 0) return memory_ + offset;
    auto* filler = reinterpret_cast<spool::RecordHeader*>(memory_ + offset);
    filler->units = static_cast<uint16_t>(pad / 8);
    filler->text_bytes = 0;
    filler->type = spool::RecordType::pad;
    filler->flags = 0;
    head_ += pad;
    return memory_;
  }
  // Makes the record that reserve() gave room for visible to the writer.
  void publish(size_t bytes) {
    head_ += bytes;
    published_.store(head_, std::memory_order_release);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    writing_.store(0, std::memory_order_relaxed);
  }
  // Whether this process may ask the kernel for the stack of its signal handlers.
  static std::atomic<bool> may_ask;
  // Why reserve() has refused.
  bool interrupted() const { return writing_.load(std::memory_order_relaxed) != 0; }
  // More than half full, as far as this thread knows; asks the writer's side only when it may be
  // so.
  bool half_full() {
    if (head_ - tail_seen_ <= size_ / 2) return false;
    tail_seen_ = consumed_.load(std::memory_order_acquire);
    return head_ - tail_seen_ > size_ / 2;
  }

  // --- writer thread ---
  struct Readable {
    const char* first;
    size_t first_bytes;
    const char* second;  // the part that wrapped around
    size_t second_bytes;
    uint64_t upto;  // give this to consume()
  };
  Readable readable() const {
    const uint64_t begin = consumed_.load(std::memory_order_relaxed);
    uint64_t end = published_.load(std::memory_order_acquire);
    // More than there is room for cannot be: nothing beyond the memory is ever given out.
    if (end - begin > size_) end = begin;
    const size_t offset = begin & (size_ - 1);
    const size_t bytes = end - begin;
    const size_t first = bytes < size_ - offset ? bytes : size_ - offset;
    return {memory_ + offset, first, memory_, bytes - first, end};
  }
  void consume(uint64_t upto) { consumed_.store(upto, std::memory_order_release); }

 private:
  // Whether what runs now, at `frame`, has interrupted what began a record at `begun`.
  static bool interrupts(uintptr_t frame, uintptr_t begun);

  char* memory_ = nullptr;
  size_t size_ = 0;
  uint64_t head_ = 0;                  // recording thread's own
  uint64_t tail_seen_ = 0;             // what it last saw of consumed_
  std::atomic<uintptr_t> writing_{0};  // its stack frame between reserve() and publish()
  std::atomic<uint64_t> published_{0};
  alignas(64) std::atomic<uint64_t> consumed_{0};
};

}  // namespace preserve::collector
