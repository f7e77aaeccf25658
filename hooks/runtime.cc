// SPDX-License-Identifier: Apache-2.0
// The few functions of the C++ runtime that the module's code calls. Those of libstdc++ bring its
// exceptions along, which need what glibc alone has (c_library.h).
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "hooks/unnoticed.h"

namespace {

// Of a constant in a function. The compiler reads the first byte: 1 once it is there.
struct Guard {
  std::atomic<uint8_t> done, busy;
};
static_assert(sizeof(Guard) <= sizeof(uint64_t));

}  // namespace

extern "C" {

__attribute__((visibility("hidden"))) int __cxa_guard_acquire(Guard* guard) {
  while (guard->busy.exchange(1, std::memory_order_acquire) != 0) {
    if (guard->done.load(std::memory_order_acquire) != 0) return 0;
    const preserve::KeepErrno kept;
    ::usleep(100);  // the one in front may be of a lower real-time priority
  }
  if (guard->done.load(std::memory_order_relaxed) == 0) return 1;
  guard->busy.store(0, std::memory_order_release);
  return 0;
}

__attribute__((visibility("hidden"))) void __cxa_guard_release(Guard* guard) {
  guard->done.store(1, std::memory_order_release);
  guard->busy.store(0, std::memory_order_release);
}

}  // extern "C"

namespace std {

// Of string_view::substr(), which is asked for no place beyond the end.
__attribute__((noreturn)) void __throw_out_of_range_fmt(const char*, ...) {
  __builtin_trap();
}

}  // namespace std
