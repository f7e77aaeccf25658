// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/ring.h"

#include <signal.h>

namespace preserve::collector {

constinit std::atomic<bool> Ring::may_ask{true};

bool Ring::interrupts(uintptr_t frame, uintptr_t begun) {
  stack_t other{};  // may lie above the thread's own stack
  if (!may_ask.load(std::memory_order_relaxed) || ::sigaltstack(nullptr, &other) != 0 ||
      (other.ss_flags & SS_DISABLE) != 0) {
    return frame < begun;
  }
  const auto on_other = [&other](uintptr_t at) {
    return at - reinterpret_cast<uintptr_t>(other.ss_sp) < other.ss_size;
  };
  if (on_other(frame) == on_other(begun)) return frame < begun;
  return on_other(frame);
}

}  // namespace preserve::collector
