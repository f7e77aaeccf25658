// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/ticks.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "hooks/unnoticed.h"
#include "profiler/collector/recorder.h"

namespace preserve::collector {

std::atomic<bool> ticks_are_tsc{false};
std::atomic<bool> tsc_is_an_error{false};
std::atomic<bool> asking_is_an_error{false};
__thread bool may_ask_time __attribute__((tls_model("initial-exec"))) = false;

namespace {

Anchor first;                           // from when the counter was chosen
Anchor left;                            // and when it was left; no ticks: it never was
double ticks_per_ns = 1;                // after that
std::atomic<int64_t> known_ns{0};       // since then
constexpr int64_t kRateNs = 5'000'000;  // over which the rate is known to 10 millionths
constexpr int kAnchorTries = 8;  // an interrupt in between shows as a wide gap; one of 8 is clean

// So that whoever waits for a time comes to an end, and not at once.
int64_t time_goes_on() {
  constexpr int64_t kStepNs = 1000;
#if defined(__x86_64__)
  for (int i = 0; i < 25; ++i) __builtin_ia32_pause();  // about as long, on most processors
#endif
  return known_ns.fetch_add(kStepNs, std::memory_order_relaxed) + kStepNs;
}

bool processor_promises_invariant_tsc() {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) != 0 && (edx & (1u << 8)) != 0;
#else
  return false;
#endif
}

// A program may have made it one with prctl(PR_SET_TSC).
bool reading_tsc_is_an_error() {
  int mode = PR_TSC_ENABLE;
  return ::prctl(PR_GET_TSC, &mode) == 0 && mode != PR_TSC_ENABLE;
}

// A kernel that found the counters of the sockets apart has switched to another clock source.
bool kernel_trusts_tsc() {
  const int fd = ::open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                        O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char name[32] = {};
  const ssize_t bytes = ::read(fd, name, sizeof(name) - 1);
  ::close(fd);
  return bytes > 0 &&
         (std::strncmp(name, "tsc", 3) == 0 || std::strncmp(name, "kvm-clock", 9) == 0);
}

}  // namespace

void choose_clock() {
  if (reading_tsc_is_an_error()) tsc_is_an_error.store(true);
  ticks_are_tsc.store(!tsc_is_an_error.load() && processor_promises_invariant_tsc() &&
                      kernel_trusts_tsc());
  first = take_anchor();
}

int64_t asked_monotonic_ns() {
  const KeepErrno kept;
  timespec now{};
  if ((asking_is_an_error.load(std::memory_order_relaxed) && !may_ask_time) ||
      ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) != 0) {
    mute_this_thread();
    return time_goes_on();
  }
  const int64_t now_ns = now.tv_sec * 1'000'000'000LL + now.tv_nsec;
  known_ns.store(now_ns, std::memory_order_relaxed);
  return now_ns;
}

bool in_tsc_units() {
  return ticks_are_tsc.load() || left.ticks != 0;
}

uint64_t ticks_at(int64_t ns) {
  if (left.ticks == 0) return static_cast<uint64_t>(ns);
  const double since = static_cast<double>(ns - left.ns) * ticks_per_ns;
  return left.ticks + static_cast<uint64_t>(static_cast<int64_t>(since));
}

void continue_without_tsc() {
  Anchor now = take_anchor();
  while (now.ns - first.ns < kRateNs) now = take_anchor();
  ticks_per_ns =
      static_cast<double>(now.ticks - first.ticks) / static_cast<double>(now.ns - first.ns);
  left = now;
  known_ns.store(now.ns, std::memory_order_relaxed);
  ticks_are_tsc.store(false, std::memory_order_release);
}

Anchor take_anchor() {
  Anchor best;
  if (!ticks_are_tsc) {
    best.ns = safe_monotonic_ns();
    best.ticks = ticks_at(best.ns);
    return best;
  }
  uint64_t narrowest = UINT64_MAX;
  for (int i = 0; i < kAnchorTries; ++i) {
    const uint64_t before = ticks_now();
    const int64_t ns = safe_monotonic_ns();
    const uint64_t after = ticks_now();
    if (after - before >= narrowest) continue;
    narrowest = after - before;
    best = {before + narrowest / 2, ns};
  }
  return best;
}

}  // namespace preserve::collector
