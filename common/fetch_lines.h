// SPDX-License-Identifier: Apache-2.0
// Bringing bytes into the cache of a CPU, in the ways that replay/cpu/fetch_method.h describes.
// Header-only: also used inside foreign processes.
#pragma once

#include <cstddef>
#include <cstdint>

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
}  // namespace preserve
