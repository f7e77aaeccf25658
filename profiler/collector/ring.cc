// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/ring.h"

#include <signal.h>

#include "hooks/unnoticed.h"

namespace preserve::collector {
namespace {

// Where nothing is known of the stack of signal handlers: a frame this close above one is taken to
// be on the same stack. Such stacks that hide are larger.
constexpr uintptr_t kCloseBytes = uintptr_t{64} << 10;

}  // namespace

constinit std::atomic<bool> Ring::may_ask{true};

bool Ring::interrupts(uintptr_t frame, uintptr_t begun) {
  const KeepErrno kept;
  stack_t other{};  // may lie above the thread's own stack
  if (!may_ask.load(std::memory_order_relaxed) || ::sigaltstack(nullptr, &other) != 0 ||
      (other.ss_flags & SS_DISABLE) != 0) {
    // A handler on a stack given with SS_AUTODISARM is told that there is none.
    return frame < begun || frame - begun >= kCloseBytes;
  }
  const auto on_other = [&other](uintptr_t at) {
    return at - reinterpret_cast<uintptr_t>(other.ss_sp) < other.ss_size;
  };
  if (on_other(frame) == on_other(begun)) return frame < begun;
  return on_other(frame);
}

}  // namespace preserve::collector
