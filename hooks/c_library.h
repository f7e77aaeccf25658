// SPDX-License-Identifier: Apache-2.0
// The environment loads our modules into every dynamic program of a run, those of other C
// libraries (musl) too, which end a program that needs a function they lack. So what glibc alone
// has is referred to weakly, by its own name, and a module stays idle where it is missing.
#pragma once

#include <semaphore.h>

extern "C" {
extern void* __dso_handle __attribute__((visibility("hidden")));
// What pthread_atfork and at_quick_exit are made of.
int __register_atfork(void (*before)(), void (*in_parent)(), void (*in_child)(), void* module)
    __attribute__((weak));
int __cxa_at_quick_exit(void (*function)(void*), void* module) __attribute__((weak));
const char* gnu_get_libc_version() noexcept __attribute__((weak));
}
#pragma weak sem_clockwait

namespace preserve::hooks {

// With all that the modules cannot do without: other C libraries may have a part of it.
inline bool is_glibc() {
  return gnu_get_libc_version != nullptr && sem_clockwait != nullptr &&
         __register_atfork != nullptr;
}

inline bool at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) {
  return __register_atfork != nullptr &&
         __register_atfork(before, in_parent, in_child, &__dso_handle) == 0;
}

template <void (*function)()>
void at_quick_exit() {
  if (__cxa_at_quick_exit == nullptr) return;
  (void)__cxa_at_quick_exit([](void*) { function(); }, &__dso_handle);
}

}  // namespace preserve::hooks
