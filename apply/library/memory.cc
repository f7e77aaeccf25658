// SPDX-License-Identifier: Apache-2.0
// Calls by which a program gives memory up: a tensor that lies there is forgotten before. They cost
// something only once a tensor of the plan has been found. Not seen: an allocator inside the
// executable, and system calls made without the C library.
#include <dlfcn.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "apply/library/process.h"

namespace preserve::apply {
namespace {

std::atomic<Tensors*> watched{nullptr};

// The next function of a name: the C library's, or that of another allocator. To look for it may
// free a message, which finds nullptr and stays.
template <typename F>
F* next(std::atomic<F*>& known, const char* name) {
  F* function = known.load(std::memory_order_acquire);
  if (__builtin_expect(function != nullptr, 1)) return function;
  static thread_local bool looking __attribute__((tls_model("initial-exec"))) = false;
  if (looking) return nullptr;
  looking = true;
  function = reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
  known.store(function, std::memory_order_release);
  looking = false;
  return function;
}

void release(const void* begin, size_t bytes) {
  if (Tensors* tensors = watched.load(std::memory_order_acquire)) {
    tensors->release(reinterpret_cast<uintptr_t>(begin), bytes);
  }
}

void release_block(void* block) {
  Tensors* tensors = watched.load(std::memory_order_acquire);
  if (__builtin_expect(tensors == nullptr, 1) || block == nullptr) return;
  const size_t bytes = ::malloc_usable_size(block);
  if (bytes >= tensors->least_bytes()) tensors->release(reinterpret_cast<uintptr_t>(block), bytes);
}

void* map(std::atomic<decltype(::mmap)*>& known, const char* name, void* address, size_t bytes,
          int protection, int flags, int file, off_t offset) {
  if ((flags & MAP_FIXED) != 0) release(address, bytes);
  if (auto* real = next(known, name)) return real(address, bytes, protection, flags, file, offset);
  return reinterpret_cast<void*>(
      ::syscall(SYS_mmap, address, bytes, protection, flags, file, offset));
}

}  // namespace

void watch_memory(Tensors* tensors) {
  watched.store(tensors, std::memory_order_release);
}

}  // namespace preserve::apply

using namespace preserve::apply;

#define PRESERVE_VISIBLE extern "C" __attribute__((visibility("default")))

PRESERVE_VISIBLE void free(void* block) noexcept {
  static std::atomic<decltype(::free)*> known{nullptr};
  release_block(block);
  if (auto* real = next(known, "free")) real(block);
}

PRESERVE_VISIBLE void* realloc(void* block, size_t bytes) noexcept {
  static std::atomic<void* (*)(void*, size_t)> known{nullptr};
  release_block(block);
  auto* real = next(known, "realloc");
  return real == nullptr ? nullptr : real(block, bytes);
}

PRESERVE_VISIBLE int munmap(void* address, size_t bytes) noexcept {
  static std::atomic<decltype(::munmap)*> known{nullptr};
  release(address, bytes);
  if (auto* real = next(known, "munmap")) return real(address, bytes);
  return static_cast<int>(::syscall(SYS_munmap, address, bytes));
}

PRESERVE_VISIBLE void* mremap(void* address, size_t bytes, size_t new_bytes, int flags,
                              ...) noexcept {
  static std::atomic<decltype(::mremap)*> known{nullptr};
  void* target = nullptr;
  if ((flags & MREMAP_FIXED) != 0) {
    va_list more;
    va_start(more, flags);
    target = va_arg(more, void*);
    va_end(more);
    release(target, new_bytes);
  }
  release(address, bytes);
  if (auto* real = next(known, "mremap")) return real(address, bytes, new_bytes, flags, target);
  return reinterpret_cast<void*>(::syscall(SYS_mremap, address, bytes, new_bytes, flags, target));
}

PRESERVE_VISIBLE int mprotect(void* address, size_t bytes, int protection) noexcept {
  static std::atomic<decltype(::mprotect)*> known{nullptr};
  if ((protection & PROT_READ) == 0) release(address, bytes);
  if (auto* real = next(known, "mprotect")) return real(address, bytes, protection);
  return static_cast<int>(::syscall(SYS_mprotect, address, bytes, protection));
}

// Its size is not said: everything behind it is looked for anew.
PRESERVE_VISIBLE int shmdt(const void* address) noexcept {
  static std::atomic<decltype(::shmdt)*> known{nullptr};
  release(address, UINTPTR_MAX - reinterpret_cast<uintptr_t>(address));
  if (auto* real = next(known, "shmdt")) return real(address);
  return static_cast<int>(::syscall(SYS_shmdt, address));
}

PRESERVE_VISIBLE void* mmap(void* address, size_t bytes, int protection, int flags, int file,
                            off_t offset) noexcept {
  static std::atomic<decltype(::mmap)*> known{nullptr};
  return map(known, "mmap", address, bytes, protection, flags, file, offset);
}

PRESERVE_VISIBLE void* mmap64(void* address, size_t bytes, int protection, int flags, int file,
                              off64_t offset) noexcept {
  static std::atomic<decltype(::mmap)*> known{nullptr};
  return map(known, "mmap64", address, bytes, protection, flags, file, offset);
}
