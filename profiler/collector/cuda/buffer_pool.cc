// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/cuda/buffer_pool.h"

#include <sys/mman.h>

#include <cstring>

namespace preserve::cuda {

uint8_t* BufferPool::map() {
  void* memory =
      ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  mapped_.fetch_add(bytes_, std::memory_order_relaxed);
  return static_cast<uint8_t*>(memory);
}

bool BufferPool::open(size_t buffers, size_t buffer_bytes, size_t ready, bool discards) {
  count_ = buffers < kMaxBuffers ? buffers : kMaxBuffers;
  bytes_ = buffer_bytes;
  if (discards) {
    discard_ = map();
    if (discard_ == nullptr) return false;
    mapped_.store(0, std::memory_order_relaxed);  // it stays untouched until needed
  }
  for (size_t i = 0; i < count_ && i < ready; ++i) {
    uint8_t* memory = map();
    if (memory == nullptr) return i > 0;
    std::memset(memory, 0, bytes_);  // page faults now, not in the program's launches
    slots_[i].memory.store(memory, std::memory_order_relaxed);
  }
  return true;
}

uint8_t* BufferPool::acquire() {
  if (closed_.load(std::memory_order_acquire)) return discard_;
  for (size_t i = 0; i < count_; ++i) {
    Slot& slot = slots_[i];
    uint32_t expected = kFree;
    if (slot.state.load(std::memory_order_relaxed) != kFree ||
        !slot.state.compare_exchange_strong(expected, kLent, std::memory_order_acq_rel)) {
      continue;
    }
    uint8_t* memory = slot.memory.load(std::memory_order_relaxed);
    if (memory == nullptr) {
      memory = map();
      slot.memory.store(memory, std::memory_order_relaxed);
    }
    if (memory != nullptr) return memory;
    slot.state.store(kFree, std::memory_order_release);
    break;  // no memory left: more slots will not help
  }
  discarded_.fetch_add(1, std::memory_order_relaxed);
  return discard_;
}

void BufferPool::complete(uint8_t* buffer, size_t valid_bytes) {
  for (size_t i = 0; i < count_; ++i) {
    Slot& slot = slots_[i];
    if (slot.state.load(std::memory_order_acquire) != kLent ||
        slot.memory.load(std::memory_order_relaxed) != buffer) {
      continue;
    }
    slot.valid_bytes = valid_bytes < bytes_ ? valid_bytes : bytes_;
    slot.state.store(kFull, std::memory_order_release);
    return;
  }
  // The discard buffer, or a buffer of the parent of a forked child.
}

void BufferPool::release(Slot& slot) {
  std::memset(slot.memory.load(std::memory_order_relaxed), 0, slot.valid_bytes);
  slot.valid_bytes = 0;
  slot.state.store(kFree, std::memory_order_release);
}

}  // namespace preserve::cuda
