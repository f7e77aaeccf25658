// SPDX-License-Identifier: Apache-2.0
// Ways of bringing bytes into the cache on a CPU. Which one works is a property of the processor,
// so preserve-calibrate measures them all and schedule.json names the chosen one:
//   load              one real load per cache line; never dropped, holds the core while it waits
//   prefetcht0/1/2    hints back to back; some processors drop them when the miss queue is full
//   prefetcht0_paced, prefetcht2_paced   hints, with one real load per 16 lines that the next hints
//                     depend on, so that the miss queue never overflows
// Header-only but for find_fetch_method(), and free of exceptions, allocations and locks, so that a
// library inside a foreign process can include it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/fetch_lines.h"

namespace preserve {

// Fetches [begin, begin + bytes). Changes nothing, except that the bytes may be cached afterwards.
using FetchFunction = void (*)(const std::byte* begin, int64_t bytes) noexcept;

struct FetchMethod {
  std::string_view name;
  FetchFunction fetch;
};

inline constexpr std::array kFetchMethods{
    FetchMethod{"load", fetch_lines::by_load},
    FetchMethod{"prefetcht0", fetch_lines::by_hint<3>},
    FetchMethod{"prefetcht1", fetch_lines::by_hint<2>},
    FetchMethod{"prefetcht2", fetch_lines::by_hint<1>},
    FetchMethod{"prefetcht0_paced", fetch_lines::by_paced_hint<3>},
    FetchMethod{"prefetcht2_paced", fetch_lines::by_paced_hint<1>},
};

// nullptr for a name that is not among them.
constexpr FetchFunction known_fetch_method(std::string_view name) noexcept {
  for (const FetchMethod& method : kFetchMethods) {
    if (method.name == name) return method.fetch;
  }
  return nullptr;
}
// input_error, listing the known ones, for a name that is not among them.
FetchFunction find_fetch_method(std::string_view name);

}  // namespace preserve
