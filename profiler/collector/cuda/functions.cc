// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/cuda/functions.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "common/hash.h"
#include "profiler/collector/cuda/thread_record.h"

namespace preserve::cuda {
namespace {

constexpr uint32_t kMostUsed = Functions::kFunctions * 3 / 4;

// The layout as `ask(index, offset, bytes)` reports it; what it answered first.
template <typename Ask>
CUresult read_layout(Ask ask, KernelFunction& function) {
  function.parameters = kUnknownLayout;
  function.bytes = 0;
  uint32_t count = 0;
  for (; count < kMaxParameters; ++count) {
    size_t offset = 0, bytes = 0;
    const CUresult result = ask(count, &offset, &bytes);
    if (result != CUDA_SUCCESS && count == 0) return result;
    if (result == CUDA_ERROR_INVALID_VALUE) break;  // one past the last
    if (result != CUDA_SUCCESS || offset + bytes > UINT16_MAX) return CUDA_SUCCESS;
    function.layout[count] = {static_cast<uint32_t>(offset), static_cast<uint32_t>(bytes)};
    const auto end = static_cast<uint32_t>(offset + bytes);
    if (end > function.bytes) function.bytes = end;
  }
  function.parameters = count;
  return CUDA_SUCCESS;
}

// A launch names a CUfunction or, since CUDA 12, a CUkernel in the same argument: the runtime's do.
// The driver does not say which; of the wrong kind it refuses the first parameter, by whatever
// error, as it does when there is none.
void ask_layout(const CuptiApi& api, const void* handle, KernelFunction& function) {
  if (api.func_param_info == nullptr) return;
  void* any = const_cast<void*>(handle);
  const CUresult as_function = read_layout(
      [&](size_t index, size_t* offset, size_t* bytes) {
        return api.func_param_info(static_cast<CUfunction>(any), index, offset, bytes);
      },
      function);
  if (as_function == CUDA_SUCCESS) return;
  const CUresult as_kernel =
      api.kernel_param_info == nullptr
          ? CUDA_ERROR_NOT_SUPPORTED
          : read_layout(
                [&](size_t index, size_t* offset, size_t* bytes) {
                  return api.kernel_param_info(static_cast<CUkernel>(any), index, offset, bytes);
                },
                function);
  if (as_kernel != CUDA_SUCCESS && as_function == CUDA_ERROR_INVALID_VALUE) function.parameters = 0;
}

bool same(const KernelFunction& known, const KernelFunction& asked, const char* name) {
  if (known.parameters != asked.parameters || known.bytes != asked.bytes) return false;
  if (name != nullptr && known.name_hash != asked.name_hash) return false;
  const uint32_t count = asked.parameters == kUnknownLayout ? 0 : asked.parameters;
  return std::memcmp(known.layout, asked.layout, count * sizeof(ParameterLayout)) == 0;
}

size_t first_slot(const void* handle) {
  // 12 bits: kFunctions.
  return (reinterpret_cast<uintptr_t>(handle) * 0x9e3779b97f4a7c15u) >> 52;
}

}  // namespace

KernelFunction* Functions::slot_of(const void* handle) const {
  KernelFunction* table = table_.load(std::memory_order_acquire);
  if (table == nullptr) return nullptr;
  KernelFunction* last = nullptr;
  size_t i = first_slot(handle);
  for (size_t tries = 0; tries < kFunctions; ++tries, i = (i + 1) % kFunctions) {
    const void* there = table[i].handle.load(std::memory_order_acquire);
    if (there == nullptr) return last != nullptr ? last : &table[i];
    if (there == handle) last = &table[i];
  }
  return last;
}

KernelFunction* Functions::free_slot(const void* handle) const {
  KernelFunction* table = table_.load(std::memory_order_acquire);
  size_t i = first_slot(handle);
  while (table[i].handle.load(std::memory_order_relaxed) != nullptr) i = (i + 1) % kFunctions;
  return &table[i];  // a quarter of them stays free
}

const KernelFunction* Functions::find(const CuptiApi& api, const void* handle, const char* name) {
  if (handle == nullptr) return nullptr;
  const KernelFunction* slot = slot_of(handle);
  const bool known = slot != nullptr && slot->handle.load(std::memory_order_acquire) == handle;
  if (known &&
      slot->epoch.load(std::memory_order_relaxed) == epoch_.load(std::memory_order_acquire)) {
    return slot;
  }
  if (!known && used_.load(std::memory_order_relaxed) >= kMostUsed) return nullptr;
  return add(api, handle, name);
}

const KernelFunction* Functions::add(const CuptiApi& api, const void* handle, const char* name) {
  const uint32_t epoch = epoch_.load(std::memory_order_acquire);
  KernelFunction asked;  // outside the lock: the driver may take its own
  asked.name_hash = fnv_hash(name == nullptr ? "" : name);
  ask_layout(api, handle, asked);
  pthread_mutex_lock(&mutex_);
  if (table_.load(std::memory_order_relaxed) == nullptr) {
    void* memory = ::mmap(nullptr, kFunctions * sizeof(KernelFunction), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) {
      auto* table = static_cast<KernelFunction*>(memory);
      for (size_t i = 0; i < kFunctions; ++i) new (&table[i]) KernelFunction;
      table_.store(table, std::memory_order_release);
    }
  }
  KernelFunction* slot = slot_of(handle);
  const bool known = slot != nullptr && slot->handle.load(std::memory_order_relaxed) == handle;
  if (known && same(*slot, asked, name)) {
    slot->epoch.store(epoch, std::memory_order_relaxed);
  } else if (slot != nullptr) {
    slot = put(handle, name, asked, epoch);
  }
  pthread_mutex_unlock(&mutex_);
  return slot;
}

KernelFunction* Functions::put(const void* handle, const char* name, const KernelFunction& asked,
                               uint32_t epoch) {
  const uint32_t count = asked.parameters == kUnknownLayout ? 0 : asked.parameters;
  const FunctionBody body{last_id_.fetch_add(1, std::memory_order_relaxed) + 1, asked.parameters,
                          0};
  if (used_.load(std::memory_order_relaxed) >= kMostUsed ||
      !record_on_thread(RecordType::function, body, name == nullptr ? "" : name, asked.layout,
                        count * sizeof(ParameterLayout))) {
    return nullptr;
  }
  KernelFunction* slot = free_slot(handle);
  slot->id = body.id;
  slot->parameters = asked.parameters;
  slot->bytes = asked.bytes;
  slot->name_hash = asked.name_hash;
  slot->epoch.store(epoch, std::memory_order_relaxed);
  std::memcpy(slot->layout, asked.layout, sizeof(slot->layout));
  used_.fetch_add(1, std::memory_order_relaxed);
  slot->handle.store(handle, std::memory_order_release);
  return slot;
}

}  // namespace preserve::cuda
