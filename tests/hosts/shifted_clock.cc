// SPDX-License-Identifier: Apache-2.0
// Preloaded into a program: its CLOCK_MONOTONIC is that of another host. SHIFTED_CLOCK=NS[:PPM]
// adds NS and lets the clock run faster by PPM millionths from the moment SHIFTED_CLOCK_FROM (ns of
// the true clock) on.
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>

namespace {

struct Shift {
  int64_t offset_ns = 0, from_ns = 0;
  double rate = 0;

  Shift() {
    const char* text = ::getenv("SHIFTED_CLOCK");
    const char* from = ::getenv("SHIFTED_CLOCK_FROM");
    if (text == nullptr) return;
    char* end = nullptr;
    offset_ns = ::strtoll(text, &end, 10);
    if (*end == ':') rate = ::strtod(end + 1, nullptr) * 1e-6;
    from_ns = from == nullptr ? 0 : ::strtoll(from, nullptr, 10);
  }
};

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* now) {
  static const Shift shift;
  const auto result = static_cast<int>(::syscall(SYS_clock_gettime, clock, now));
  if (result != 0 || clock != CLOCK_MONOTONIC) return result;
  int64_t ns = now->tv_sec * 1'000'000'000LL + now->tv_nsec;
  ns +=
      shift.offset_ns + static_cast<int64_t>(static_cast<double>(ns - shift.from_ns) * shift.rate);
  now->tv_sec = ns / 1'000'000'000;
  now->tv_nsec = ns % 1'000'000'000;
  return 0;
}
