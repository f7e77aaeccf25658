// SPDX-License-Identifier: Apache-2.0
// Ways of bringing bytes into the cache of a CPU. Which one works is a property of the processor,
// so preserve-calibrate measures them all and schedule.json names the chosen one:
//   load              one real load per cache line; never dropped, holds the core while it waits
//   prefetcht0/1/2    hints back to back; some processors drop them when the miss queue is full
//   prefetcht0_paced, prefetcht2_paced   hints, with one real load per 16 lines that the next hints
//                     depend on, so that the miss queue never overflows
// Header-only, free of exceptions, allocations and locks: also used inside foreign processes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace preserve {

inline constexpr int64_t kCacheLineBytes = 64;

namespace fetch_lines {

// 16 lines: the smallest L1 miss queue of current server cores holds at least ten (Intel SDM: 10-16
// line fill buffers; AMD Zen: 22-24), the L2's more.
inline constexpr int64_t kPaceBytes = 16 * kCacheLineBytes;

// A load that the compiler must keep and whose value it cannot know.
inline uint64_t load_word(const std::byte* address) {
  return *reinterpret_cast<const volatile uint64_t*>(address);
}

// Whole lines, so that a load never reaches past the last byte wanted.
inline const std::byte* line_begin(const std::byte* address) {
  const auto value = reinterpret_cast<uintptr_t>(address);
  return address - value % static_cast<uintptr_t>(kCacheLineBytes);
}

inline void by_load(const std::byte* begin, int64_t bytes) noexcept {
  uint64_t sum = 0;
  const std::byte* end = begin + bytes;
  for (const std::byte* line = line_begin(begin); line < end; line += kCacheLineBytes) {
    sum ^= load_word(line);
  }
  asm volatile("" : : "r"(sum));
}

template <int kLocality>  // 3, 2, 1: prefetcht0, t1, t2 on x86, L1, L2, L3 on Arm
void by_hint(const std::byte* begin, int64_t bytes) noexcept {
  const std::byte* end = begin + bytes;
  for (const std::byte* line = line_begin(begin); line < end; line += kCacheLineBytes) {
    __builtin_prefetch(line, 0, kLocality);
  }
}

template <int kLocality>
void by_paced_hint(const std::byte* begin, int64_t bytes) noexcept {
  uint64_t zero = 0;
  asm volatile("" : "+r"(zero));  // zero, but neither compiler nor processor may assume so
  const std::byte* end = begin + bytes;
  for (const std::byte* block = line_begin(begin); block < end; block += kPaceBytes) {
    const std::byte* stop = end - block < kPaceBytes ? end : block + kPaceBytes;
    const std::byte* last = block;
    for (const std::byte* line = block; line < stop; line += kCacheLineBytes) {
      __builtin_prefetch(line, 0, kLocality);
      last = line;
    }
    // The next addresses wait for this load, which waits for its line.
    block += load_word(last) & zero;
  }
}

}  // namespace fetch_lines

// Fetches [begin, begin + bytes). Changes nothing, except that the bytes may be cached afterwards.
using FetchFunction = void (*)(const std::byte* begin, int64_t bytes);

struct FetchMethod {
  std::string_view name;
  FetchFunction fetch;
};

inline constexpr FetchMethod kFetchMethods[] = {
    {"load", fetch_lines::by_load},
    {"prefetcht0", fetch_lines::by_hint<3>},
    {"prefetcht1", fetch_lines::by_hint<2>},
    {"prefetcht2", fetch_lines::by_hint<1>},
    {"prefetcht0_paced", fetch_lines::by_paced_hint<3>},
    {"prefetcht2_paced", fetch_lines::by_paced_hint<1>},
};

}  // namespace preserve
