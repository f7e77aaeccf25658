// SPDX-License-Identifier: Apache-2.0
// Ways of bringing bytes into the cache on a CPU. Which one works is a property of the processor,
// so preserve-calibrate measures them all and schedule.json names the chosen one:
//   load              one real load per cache line; never dropped, holds the core while it waits
//   prefetcht0/1/2    hints back to back; some processors drop them when the miss queue is full
//   prefetcht0_paced, prefetcht2_paced   hints, with one real load per 16 lines that the next hints
//                     depend on, so that the miss queue never overflows
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/fetch_lines.h"

namespace preserve {

// Fetches [begin, begin + bytes). Changes nothing, except that the bytes may be cached afterwards.
using FetchFunction = void (*)(const std::byte* begin, int64_t bytes);

struct FetchMethod {
  std::string_view name;
  FetchFunction fetch;
};

const std::vector<FetchMethod>& fetch_methods();
// input_error, listing the known ones, for a name that is not among them.
FetchFunction find_fetch_method(std::string_view name);

}  // namespace preserve
