// SPDX-License-Identifier: Apache-2.0
// --sample: of one range name on one thread the first `sample_first` of a flush period are
// recorded, then every kSampleEvery-th. What is inside a range that is left out, in the same
// domain, is left out too, so beginnings and ends stay together.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "common/hash.h"

namespace preserve::collector {

inline constexpr uint32_t kSampleEvery = 100;

extern uint32_t sample_first;  // 0: everything is recorded. Set before the first record
extern std::atomic<uint32_t> sample_period;  // counted by the writer thread

// How often each name came in this period. Names that share a place may be counted as one.
class SampledNames {
 public:
  // Whether to record the one that comes now.
  bool next(uint16_t domain, uint32_t string_id, std::string_view text) {
    const uint64_t key = hash(domain, string_id, text);
    const uint32_t period = sample_period.load(std::memory_order_relaxed);
    Count* place = nullptr;
    for (uint64_t i = 0; i < kPlaces; ++i) {
      Count& count = counts_[(key + i) % kCounts];
      if (count.period == period && count.key == key) {
        const uint32_t before = count.times++;
        return before < sample_first || (before - sample_first) % kSampleEvery == 0;
      }
      if (place == nullptr || rarer(count, *place, period)) place = &count;
    }
    *place = {key, period, 1};
    return true;
  }

 private:
  struct Count {
    uint64_t key;
    uint32_t period, times;
  };
  static bool rarer(const Count& count, const Count& other, uint32_t period) {
    if ((count.period == period) != (other.period == period)) return count.period != period;
    return count.times < other.times;
  }
  static uint64_t hash(uint16_t domain, uint32_t string_id, std::string_view text) {
    const uint64_t sum = fnv_hash(text, kFnvBasis ^ (uint64_t{string_id} << 16 | domain));
    return sum ^ sum >> 32;
  }
  static constexpr uint64_t kCounts = 512, kPlaces = 4;
  Count counts_[kCounts] = {};
};

}  // namespace preserve::collector
