// SPDX-License-Identifier: Apache-2.0
// The repetition in a sequence of symbols: what a step is where nobody named one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace preserve {

// The period, in symbols, of the longest repetitive stretch of `symbols`: the smallest p such that
// at least `min_repeats` consecutive blocks of p symbols agree in at least 90 % of their positions.
struct Period {
  size_t length = 0;   // 0: no period
  size_t begin = 0;    // first symbol of the first block
  size_t repeats = 0;  // whole blocks
};
Period find_period(const std::vector<uint64_t>& symbols, size_t min_repeats = 3);
// The longest stretch that repeats with that period; no length when none does at least twice.
Period repetition_of(const std::vector<uint64_t>& symbols, size_t length);

}  // namespace preserve
