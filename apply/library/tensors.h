// SPDX-License-Identifier: Apache-2.0
// Where the tensors of the plan lie in this process: NVTX memory regions and allocations by name,
// followed while they are registered, resized and unregistered, checked to be mapped for reading,
// and forgotten when their memory is released. Nothing is ever written to them.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "apply/outcome_file.h"
#include "apply/plan_file.h"
#include "common/no_copy.h"

namespace preserve::apply {

class Tensors {
 public:
  // What they look into must live on. False when there is no memory; then nothing else may be
  // called.
  bool start(std::span<const PlanTensor> tensors, std::string_view text);
  bool start(const PlanView& plan) { return start(plan.tensors(), plan.text()); }

  // Whether the plan names memory that the program does not name. Constant.
  bool wants_allocations() const { return wants_allocations_; }

  // What the program says, on any thread. A region is named by `id`, or where that is 0 by `base`.
  void define_string(uint64_t id, std::string_view text);
  void add_region(uint64_t id, uint64_t heap, uint64_t base, uint64_t bytes);
  // `text`, or where `string` is not 0 the text that was defined under it.
  void name_region(uint64_t id, uint64_t base, uint64_t string, std::string_view text);
  void resize_region(uint64_t base, uint64_t bytes);
  void remove_region(uint64_t id, uint64_t base);
  void remove_heap(uint64_t heap);

  // These addresses are about to be unmapped or freed, on any thread. Returns when no fetch reads
  // them any more.
  void release(uint64_t begin, uint64_t bytes) {
    if (begin < high_.load(std::memory_order_relaxed) &&
        begin + bytes > low_.load(std::memory_order_relaxed)) {
      forget_range(begin, bytes);
    }
  }
  // Of the smallest tensor that was ever found; a smaller block holds none. Before: UINT64_MAX.
  uint64_t least_bytes() const { return least_.load(std::memory_order_relaxed); }

  // Whether a tensor has come or gone since the last check().
  bool has_news() const { return news_.load(std::memory_order_relaxed); }
  // Finds out how far each tensor is mapped for reading; only what is may be fetched from then on.
  // Makes system calls.
  void check();
  bool any_mapped() const { return mapped_; }  // of the last check()
  void report(TensorOutcome* outcomes) const;

  struct Place {
    const std::byte* begin = nullptr;
    uint64_t bytes = 0;  // mapped and in the tensor; 0: nothing
  };
  // Around each read of what at() returned: release() waits in between.
  class Reading : NoCopy {
   public:
    explicit Reading(Tensors& tensors) : reading_(tensors.reading_) {
      reading_.store(true);  // before at() reads an address
    }
    ~Reading() { reading_.store(false, std::memory_order_release); }

   private:
    std::atomic<bool>& reading_;
  };
  Place at(uint32_t tensor, uint64_t offset_bytes, uint64_t length_bytes) const;
  // As the program registered it last, mapped or not.
  Place registered(uint32_t tensor) const;

 private:
  struct Tensor {
    std::atomic<uint64_t> base{0};    // 0: not found, or gone
    std::atomic<uint64_t> bytes{0};   // as registered
    std::atomic<uint64_t> mapped{0};  // readable from `base` on, as of the last check
    uint64_t id = 0, heap = 0;
    std::atomic<TensorState> state{TensorState::missing};
  };
  struct Region {  // registered, not named yet
    uint64_t id = 0, heap = 0, base = 0, bytes = 0;
  };
  struct Text {
    uint64_t id = 0;
    uint32_t tensor = 0;
  };
  class Lock;

  static constexpr uint32_t kUnnamed = 1 << 14;  // programs register a batch, then name it
  static constexpr uint32_t kNone = UINT32_MAX;

  std::string_view name_of(uint32_t tensor) const {
    return text_.substr(planned_[tensor].name.offset, planned_[tensor].name.bytes);
  }
  uint32_t find(std::string_view name) const;
  Region* find_unnamed(uint64_t id, uint64_t base);
  void forget(Tensor& tensor);
  void forget_range(uint64_t begin, uint64_t bytes);
  void await_reader() const;
  void read_maps();
  void widen(uint64_t begin, uint64_t end);

  std::span<const PlanTensor> planned_;
  std::string_view text_;
  uint32_t count_ = 0, slots_ = 0;
  Tensor* tensors_ = nullptr;
  uint32_t* names_ = nullptr;  // hash table of `slots_`: tensor + 1
  Region* unnamed_ = nullptr;  // a ring
  Text* texts_ = nullptr;      // a ring of 2 * count_: registered strings that name a tensor
  char* buffer_ = nullptr;     // for /proc/self/maps
  uint32_t newest_unnamed_ = 0, next_unnamed_ = 0, next_text_ = 0, next_resized_ = 0;
  bool mapped_ = false, wants_allocations_ = false;
  std::atomic<uint64_t> low_{UINT64_MAX}, high_{0};  // around all tensors ever found
  std::atomic<uint64_t> least_{UINT64_MAX};
  std::atomic<bool> news_{false}, reading_{false};
  // A release that could not wait for the lock: nothing may be read until the next check().
  std::atomic<bool> suspended_{false};
  mutable pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

}  // namespace preserve::apply
