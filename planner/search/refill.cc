// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "planner/search/search.h"

namespace preserve {

namespace {

constexpr size_t kMostImproved = 12;  // of the plans with one window filled
constexpr int kMostRounds = 4;
constexpr double kNegligible = 1e-6;  // of the step

}  // namespace

SearchResult PlanSearch::refill(SearchResult from) {
  const auto consumers = static_cast<int32_t>(ring_.problem().consumers.size());
  for (int round = 0; round < kMostRounds; ++round) {
    std::vector<SearchResult> filled;
    for (size_t window = 0; window < from.amounts.size(); ++window) {
      for (int32_t consumer = 0; consumer < consumers; ++consumer) {
        Amounts amounts = from.amounts;
        changes_.fill(window, consumer, amounts);
        if (amounts != from.amounts) filled.push_back(judge(std::move(amounts)));
      }
    }
    std::stable_sort(filled.begin(), filled.end(), is_shorter);
    if (filled.size() > kMostImproved) filled.resize(kMostImproved);
    const double before_ns = from.step_ns;
    for (SearchResult& plan : filled) {
      SearchResult improved = improve(std::move(plan));
      if (improved.step_ns >= (1 - kNegligible) * before_ns) continue;
      from = std::move(improved);
      break;
    }
    if (from.step_ns >= before_ns) break;
  }
  return from;
}

}  // namespace preserve
