// SPDX-License-Identifier: Apache-2.0
// Memory that the program gives up: a tensor that lies there is forgotten before. Where the plan
// names allocations, also memory that it gets.
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>

#include "apply/library/process.h"
#include "hooks/listener.h"
#include "hooks/memory/allocations.h"

namespace preserve::apply {
namespace {

std::atomic<Tensors*> watched{nullptr};
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
hooks::Allocations allocations;  // under `mutex`

}  // namespace

void watch_memory(Tensors* tensors) {
  watched.store(tensors, std::memory_order_release);
}

}  // namespace preserve::apply

namespace preserve {

using namespace apply;

size_t listener::memory_least_bytes() {
  const Tensors* tensors = watched.load(std::memory_order_acquire);
  if (__builtin_expect(tensors == nullptr, 1)) return SIZE_MAX;
  const auto least = static_cast<size_t>(tensors->least_bytes());
  return tensors->wants_allocations() ? std::min(least, hooks::kLeastAllocationBytes) : least;
}

void listener::memory_came(const void* begin, size_t bytes, int protection) {
  Tensors* tensors = watched.load(std::memory_order_acquire);
  if (tensors == nullptr || !tensors->wants_allocations() || bytes < hooks::kLeastAllocationBytes ||
      (protection & PROT_READ) == 0) {
    return;
  }
  const auto base = reinterpret_cast<uintptr_t>(begin);
  hooks::AllocationName room;
  std::string_view name;
  pthread_mutex_lock(&mutex);
  if (const hooks::Allocation* added = allocations.add(base, bytes, protection)) {
    name = hooks::Allocations::name(*added, room);
  }
  pthread_mutex_unlock(&mutex);
  if (name.empty()) return;
  tensors->add_region(0, 0, base, bytes);
  tensors->name_region(0, base, 0, name);
}

void listener::memory_goes(const void* begin, size_t bytes, int protection) {
  Tensors* tensors = watched.load(std::memory_order_acquire);
  if (tensors == nullptr || (protection & PROT_READ) != 0) return;
  const auto base = reinterpret_cast<uintptr_t>(begin);
  if (tensors->wants_allocations()) {
    pthread_mutex_lock(&mutex);
    allocations.remove(base, bytes, [](const hooks::Allocation&) {});
    pthread_mutex_unlock(&mutex);
  }
  tensors->release(base, bytes);
}

}  // namespace preserve
