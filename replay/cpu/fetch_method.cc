// SPDX-License-Identifier: Apache-2.0
#include "replay/cpu/fetch_method.h"

#include "common/error.h"
#include "common/text.h"

namespace preserve {
namespace {

// 16 lines: the smallest L1 miss queue of current server cores holds at least ten (Intel SDM: 10-16
// line fill buffers; AMD Zen: 22-24), the L2's more.
constexpr int64_t kPaceBytes = 16 * kCacheLineBytes;

// A load that the compiler must keep and whose value it cannot know.
uint64_t load_word(const std::byte* address) {
  return *reinterpret_cast<const volatile uint64_t*>(address);
}

// Whole lines, so that a load never reaches past the last byte wanted.
const std::byte* line_begin(const std::byte* address) {
  const auto value = reinterpret_cast<uintptr_t>(address);
  return address - value % static_cast<uintptr_t>(kCacheLineBytes);
}

void fetch_by_load(const std::byte* begin, int64_t bytes) {
  uint64_t sum = 0;
  const std::byte* end = begin + bytes;
  for (const std::byte* line = line_begin(begin); line < end; line += kCacheLineBytes) {
    sum ^= load_word(line);
  }
  asm volatile("" : : "r"(sum));
}

template <int kLocality>  // 3, 2, 1: prefetcht0, t1, t2 on x86, L1, L2, L3 on Arm
void fetch_by_hint(const std::byte* begin, int64_t bytes) {
  const std::byte* end = begin + bytes;
  for (const std::byte* line = line_begin(begin); line < end; line += kCacheLineBytes) {
    __builtin_prefetch(line, 0, kLocality);
  }
}

template <int kLocality>
void fetch_by_paced_hint(const std::byte* begin, int64_t bytes) {
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

}  // namespace

const std::vector<FetchMethod>& fetch_methods() {
  static const std::vector<FetchMethod> methods{
      {"load", fetch_by_load},
      {"prefetcht0", fetch_by_hint<3>},
      {"prefetcht1", fetch_by_hint<2>},
      {"prefetcht2", fetch_by_hint<1>},
      {"prefetcht0_paced", fetch_by_paced_hint<3>},
      {"prefetcht2_paced", fetch_by_paced_hint<1>},
  };
  return methods;
}

FetchFunction find_fetch_method(std::string_view name) {
  std::string known;
  for (const FetchMethod& method : fetch_methods()) {
    if (method.name == name) return method.fetch;
    known += (known.empty() ? "" : ", ") + std::string(method.name);
  }
  throw input_error(
      "prefetch method \"{}\" is not one that a CPU replay has ({}): the schedule was "
      "made for another kind of device; plan again with the device.json of this machine",
      printable(name), known);
}

}  // namespace preserve
