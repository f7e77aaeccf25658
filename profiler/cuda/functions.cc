// SPDX-License-Identifier: Apache-2.0
#include "profiler/cuda/functions.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "profiler/cuda/thread_record.h"

namespace preserve::cuda {
namespace {

// A launch names a CUfunction or, since CUDA 12, a CUkernel in the same argument.
CUresult ask(const CuptiApi& api, const void* handle, size_t index, size_t* offset, size_t* bytes) {
  CUresult result = CUDA_ERROR_NOT_SUPPORTED;
  if (api.func_param_info != nullptr) {
    result = api.func_param_info(static_cast<CUfunction>(const_cast<void*>(handle)), index, offset,
                                 bytes);
  }
  if (result == CUDA_ERROR_INVALID_HANDLE && api.kernel_param_info != nullptr) {
    result = api.kernel_param_info(static_cast<CUkernel>(const_cast<void*>(handle)), index, offset,
                                   bytes);
  }
  return result;
}

void ask_layout(const CuptiApi& api, const void* handle, KernelFunction& function) {
  function.parameters = kUnknownLayout;
  function.bytes = 0;
  uint32_t count = 0;
  for (; count < kMaxParameters; ++count) {
    size_t offset = 0, bytes = 0;
    const CUresult result = ask(api, handle, count, &offset, &bytes);
    if (result == CUDA_ERROR_INVALID_VALUE) break;  // one past the last
    if (result != CUDA_SUCCESS || offset + bytes > UINT16_MAX) return;
    function.layout[count] = {static_cast<uint32_t>(offset), static_cast<uint32_t>(bytes)};
    const auto end = static_cast<uint32_t>(offset + bytes);
    if (end > function.bytes) function.bytes = end;
  }
  function.parameters = count;
}

}  // namespace

KernelFunction* Functions::slot_of(const void* handle, uint32_t epoch) {
  KernelFunction* table = table_.load(std::memory_order_acquire);
  if (table == nullptr) return nullptr;
  size_t i =
      (reinterpret_cast<uintptr_t>(handle) * 0x9e3779b97f4a7c15u) >> 52;  // 12 bits: kFunctions
  for (size_t tries = 0; tries < kFunctions; ++tries, i = (i + 1) % kFunctions) {
    const void* there = table[i].handle.load(std::memory_order_acquire);
    if (there == nullptr || (there == handle && table[i].epoch == epoch)) return &table[i];
  }
  return nullptr;
}

const KernelFunction* Functions::find(const CuptiApi& api, const void* handle, const char* name) {
  if (handle == nullptr) return nullptr;
  const KernelFunction* slot = slot_of(handle, epoch_.load(std::memory_order_acquire));
  if (slot != nullptr && slot->handle.load(std::memory_order_acquire) == handle) return slot;
  return add(api, handle, name);
}

const KernelFunction* Functions::add(const CuptiApi& api, const void* handle, const char* name) {
  KernelFunction asked;  // outside the lock: the driver may take its own
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
  const uint32_t epoch = epoch_.load(std::memory_order_acquire);
  KernelFunction* slot = slot_of(handle, epoch);
  const bool known = slot != nullptr && slot->handle.load(std::memory_order_relaxed) == handle;
  if (slot != nullptr && !known) {
    const uint32_t count = asked.parameters == kUnknownLayout ? 0 : asked.parameters;
    const FunctionBody body{collector::next_id(), asked.parameters, 0};
    if (used_ >= kFunctions * 3 / 4 ||
        !record_on_thread(RecordType::function, body, name == nullptr ? "" : name, asked.layout,
                          count * sizeof(ParameterLayout))) {
      slot = nullptr;
    } else {
      slot->id = body.id;
      slot->parameters = asked.parameters;
      slot->bytes = asked.bytes;
      slot->epoch = epoch;
      std::memcpy(slot->layout, asked.layout, sizeof(slot->layout));
      ++used_;
      slot->handle.store(handle, std::memory_order_release);
    }
  }
  pthread_mutex_unlock(&mutex_);
  return slot;
}

}  // namespace preserve::cuda
