// SPDX-License-Identifier: Apache-2.0
#include "planner/search/amounts.h"

#include <algorithm>
#include <utility>

#include "common/as_index.h"
#include "common/error.h"

namespace preserve {

WindowRing::WindowRing(const FoldedStep& step, const PlanProblem& problem,
                       std::vector<int32_t> windows)
    : step_(step), problem_(problem), windows_(std::move(windows)) {
  for (const int32_t window : windows_) {
    const auto after = std::upper_bound(
        problem.consumers.begin(), problem.consumers.end(), window,
        [](int32_t ordinal, const PlanConsumer& consumer) { return ordinal < consumer.ordinal; });
    first_consumer_.push_back(after == problem.consumers.end()
                                  ? 0
                                  : static_cast<int32_t>(after - problem.consumers.begin()));
  }
}

int64_t WindowRing::ahead(int32_t from, int32_t to) const {
  const auto count = static_cast<int64_t>(step_.ops.size());
  return to > from ? to - from : to - from + count;
}

int64_t WindowRing::distance(size_t window, int32_t consumer) const {
  return ahead(windows_[window], problem_.consumers[as_index(consumer)].ordinal);
}

int64_t WindowRing::distance_to_window(size_t from, size_t to) const {
  return ahead(windows_[from], windows_[to]);
}

size_t WindowRing::period() const {
  constexpr size_t kFewestRepetitions = 4;
  const size_t count = windows_.size();
  if (problem_.consumers.empty()) return 0;
  const auto are_alike = [&](size_t a, size_t b) {
    const int32_t first_of_a = first_consumer_[a], first_of_b = first_consumer_[b];
    return distance_to_window(a, next(a)) == distance_to_window(b, next(b)) &&
           distance(a, first_of_a) == distance(b, first_of_b) &&
           problem_.consumers[as_index(first_of_a)].blocks ==
               problem_.consumers[as_index(first_of_b)].blocks;
  };
  for (size_t period = 1; period * kFewestRepetitions <= count; ++period) {
    size_t alike = 0;
    for (size_t window = 0; window + period < count; ++window) {
      alike += are_alike(window, window + period) ? 1 : 0;
    }
    if (4 * alike >= 3 * (count - period)) return period;
  }
  return 0;
}

size_t WindowRing::window_at(int32_t ordinal) const {
  const auto window = std::lower_bound(windows_.begin(), windows_.end(), ordinal);
  if (window == windows_.end() || *window != ordinal) {
    throw internal_error("the search has no window at operator {}", ordinal);
  }
  return as_index(window - windows_.begin());
}

Amounts WindowRing::placed(const std::vector<int32_t>& windows, Amounts amounts) const {
  Amounts placed(windows_.size());
  for (size_t i = 0; i < windows.size(); ++i) {
    if (!amounts[i].empty()) placed[window_at(windows[i])] = std::move(amounts[i]);
  }
  return placed;
}

Amounts WindowRing::amounts_of(const std::vector<PlannedWindow>& windows) const {
  Amounts amounts(windows_.size());
  for (const PlannedWindow& planned : windows) {
    if (planned.prefetches.empty()) continue;
    const size_t index = window_at(planned.ordinal);
    for (const PlannedPrefetch& prefetch : planned.prefetches) {
      const auto consumer = std::lower_bound(
          problem_.consumers.begin(), problem_.consumers.end(), prefetch.consumer_ordinal,
          [](const PlanConsumer& item, int32_t ordinal) { return item.ordinal < ordinal; });
      add_blocks(amounts[index], *this, index,
                 static_cast<int32_t>(consumer - problem_.consumers.begin()),
                 prefetch.length_bytes / kBlockBytes);
    }
  }
  return amounts;
}

PrefetchOrders WindowRing::orders_of(const Amounts& amounts, std::vector<Owner>* owners) const {
  // Blocks of each consumer that earlier windows fetch. Those that open after it are of the step
  // before, so they come first.
  std::vector<int64_t> taken(problem_.consumers.size(), 0);
  size_t count = 0;
  for (size_t window = 0; window < windows_.size(); ++window) {
    count += amounts[window].size();
    for (const Share& share : amounts[window]) {
      const bool next_step =
          problem_.consumers[as_index(share.consumer)].ordinal <= windows_[window];
      if (next_step) taken[as_index(share.consumer)] += share.blocks;
    }
  }
  std::vector<int64_t> taken_by_next(problem_.consumers.size(), 0);
  PrefetchOrders orders;
  orders.prefetches.reserve(count);
  orders.windows.reserve(windows_.size());
  if (owners != nullptr) owners->clear();
  for (size_t window = 0; window < windows_.size(); ++window) {
    const WindowShares& shares = amounts[window];
    if (shares.empty()) continue;
    PrefetchWindow& opened =
        orders.windows.emplace_back(PrefetchWindow{windows_[window], orders.prefetches.size(), 0});
    for (size_t place = 0; place < shares.size(); ++place) {
      const PlanConsumer& consumer = problem_.consumers[as_index(shares[place].consumer)];
      const bool next_step = consumer.ordinal <= windows_[window];
      int64_t& begin = (next_step ? taken_by_next : taken)[as_index(shares[place].consumer)];
      int64_t from = begin, left = shares[place].blocks;
      begin += left;
      for (const Slice& slice : consumer.slices) {
        if (left == 0) break;
        const int64_t blocks = std::min(left, slice.blocks - from);
        if (blocks <= 0) {
          from -= slice.blocks;
          continue;
        }
        const int64_t first_byte = slice.offset_bytes + from * kBlockBytes;
        orders.prefetches.push_back({slice.tensor, first_byte, first_byte + blocks * kBlockBytes,
                                     consumer.ordinal, next_step});
        if (owners != nullptr) {
          owners->push_back({static_cast<uint32_t>(window), static_cast<uint32_t>(place)});
        }
        left -= blocks;
        from = 0;
      }
      if (left > 0) throw internal_error("operator {} has no block left", consumer.ordinal);
    }
    opened.count = orders.prefetches.size() - opened.first;
  }
  return orders;
}

std::vector<PlannedWindow> WindowRing::planned_windows(const Amounts& amounts) const {
  const PrefetchOrders orders = orders_of(amounts);
  std::vector<PlannedWindow> windows(windows_.size());
  auto opened = orders.windows.begin();
  for (size_t i = 0; i < windows_.size(); ++i) {
    PlannedWindow& window = windows[i];
    window.ordinal = windows_[i];
    window.name = step_.ops[as_index(window.ordinal)].name;
    if (opened == orders.windows.end() || opened->ordinal != window.ordinal) continue;
    for (size_t p = opened->first; p < opened->first + opened->count; ++p) {
      const Prefetch& prefetch = orders.prefetches[p];
      PlannedPrefetch& planned = window.prefetches.emplace_back();
      planned.tensor = step_.tensors[as_index(prefetch.tensor)].name;
      planned.consumer_ordinal = prefetch.consumer;
      planned.consumer = step_.ops[as_index(prefetch.consumer)].name;
      planned.offset_bytes = prefetch.begin;
      planned.length_bytes = prefetch.end - prefetch.begin;
      planned.next_step = prefetch.next_step;
      window.used_bytes += planned.length_bytes;
    }
    ++opened;
  }
  return windows;
}

void add_blocks(WindowShares& shares, const WindowRing& ring, size_t window, int32_t consumer,
                int64_t blocks) {
  const int64_t place = ring.distance(window, consumer);
  const auto at = std::find_if(shares.begin(), shares.end(), [&](const Share& share) {
    return ring.distance(window, share.consumer) >= place;
  });
  if (at == shares.end() || at->consumer != consumer) {
    if (blocks > 0) shares.insert(at, {consumer, blocks});
    return;
  }
  at->blocks += blocks;
  if (at->blocks <= 0) shares.erase(at);
}

}  // namespace preserve
