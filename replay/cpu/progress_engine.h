// SPDX-License-Identifier: Apache-2.0
// The progress engine of Open MPI: while a blocking call waits, the library calls every registered
// function once per turn of its loop, so that prefetches fill the wait of an unchanged call. A
// function gets no argument, returns how many requests it completed (none), must return within a
// microsecond or two, or the end of the collective is noticed late, and must not call MPI.
#pragma once

#include <dlfcn.h>

namespace preserve {

struct ProgressEngine {
  using Turn = int (*)();
  int (*add)(Turn) = nullptr;     // 0: done. Takes a lock, allocates: not inside a window
  int (*remove)(Turn) = nullptr;  // the same

  bool found() const noexcept { return add != nullptr && remove != nullptr; }
};

// Of the MPI library that this process has loaded; not found() with any other than Open MPI.
inline ProgressEngine find_progress_engine() noexcept {
  using Function = int (*)(ProgressEngine::Turn);
  return {reinterpret_cast<Function>(::dlsym(RTLD_DEFAULT, "opal_progress_register")),
          reinterpret_cast<Function>(::dlsym(RTLD_DEFAULT, "opal_progress_unregister"))};
}

}  // namespace preserve
