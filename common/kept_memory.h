// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <malloc.h>

namespace preserve {

// What this process frees stays with it, for what it takes next. The C library otherwise returns
// large blocks to the kernel, which clears every page anew: where page faults are slow that was a
// third of the time of a plan for a million operators.
inline void keep_freed_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
}

}  // namespace preserve
