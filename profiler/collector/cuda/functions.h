// SPDX-License-Identifier: Apache-2.0
// Where the parameters of each kernel lie in its parameter buffer, asked of the driver once per
// function handle. Read on every launch: lock-free, because an entry never changes once it is
// there, but for the epoch in which it was last found true. After a module was unloaded its handles
// may be reused, so the driver is asked once more for each then; a handle that means something else
// gets another entry. Fixed memory: kFunctions entries of about 550 bytes, mapped when the first is
// needed; when all are taken, later functions have no layout.
#pragma once

#include <pthread.h>

#include <atomic>

#include "profiler/collector/cuda/cupti_api.h"
#include "profiler/cuda_records.h"

namespace preserve::cuda {

struct KernelFunction {
  std::atomic<const void*> handle{nullptr};
  std::atomic<uint32_t> epoch{0};  // of the modules when it was asked last
  uint64_t id = 0;                 // FunctionBody::id
  uint64_t name_hash = 0;
  uint32_t parameters = kUnknownLayout;
  uint32_t bytes = 0;  // of the parameter buffer
  ParameterLayout layout[kMaxParameters] = {};
};

class Functions {
 public:
  static constexpr size_t kFunctions = 4096;

  // The entry of `handle` (CUfunction or CUkernel); asks the driver and records its name and layout
  // when it is new. nullptr when the table is full or the record found no room.
  const KernelFunction* find(const CuptiApi& api, const void* handle, const char* name);
  void forget() { epoch_.fetch_add(1, std::memory_order_acq_rel); }  // a module was unloaded

 private:
  const KernelFunction* add(const CuptiApi& api, const void* handle, const char* name);
  KernelFunction* put(const void* handle, const char* name, const KernelFunction& asked,
                      uint32_t epoch);
  KernelFunction* slot_of(const void* handle) const;  // of its last meaning, or a free one
  KernelFunction* free_slot(const void* handle) const;

  std::atomic<KernelFunction*> table_{nullptr};
  std::atomic<uint32_t> epoch_{1};
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  std::atomic<uint32_t> used_{0};
  std::atomic<uint64_t> last_id_{0};
};

}  // namespace preserve::cuda
