// SPDX-License-Identifier: Apache-2.0
// The single changes of a plan: more or fewer blocks of one window for one consumer, or in another
// window, never beyond what the cache and the windows allow.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "planner/search/amounts.h"

namespace preserve {

struct PlanLimits {
  int64_t budget_bytes =
      0;  // most that is fetched and unread when a window opens, its own included
  int64_t window_cost_ns = 0;  // of each window in use, which the referee does not model
  // The smallest share of a window for one consumer, and the smallest change that is tried.
  int64_t min_prefetch_bytes = 0;
  // Of each window: the most that the search adds up to. What the referee finds beyond the supplies
  // of the flow, beside operators that read, hardware has not confirmed.
  std::vector<int64_t> most_bytes{};
};

// gather: all of a share goes, and the window before fetches some blocks more for its reader.
// spread: some blocks of a share go, and the window after fetches four times as many.
enum class Change { grow, extend, shrink, drop, later, earlier, swap, gather, spread };

struct Move {
  Change change = Change::grow;
  size_t which = 0;    // the share, from the end that the change begins with
  bool whole = false;  // all of the share, however many blocks are tried
};

// Those that help most often.
const std::vector<Move>& usual_moves();

inline bool is_fewer(Change change) {
  return change == Change::shrink || change == Change::drop;
}

// What keeps a window from fetching more for the next operator that has bytes left.
enum class Full { no, nothing_left, supply, cache };

class Changes {
 public:
  // The ring must outlive it.
  Changes(const WindowRing& ring, const PlanLimits& limits);

  int64_t least_blocks() const { return least_blocks_; }

  void drop_small(Amounts& amounts) const;
  void keep_to_budget(Amounts& amounts) const { keep_to_budget(amounts, kNoWindow, 0); }
  // The window fetches all that it may for the consumer, taken from whatever holds it: the same
  // bytes in other windows, what else the window fetches, and other bytes in the cache.
  void fill(size_t window, int32_t consumer, Amounts& amounts) const;

  // Changes of this plan follow, all of which fit together.
  void begin(const Amounts& amounts);
  // Others of the same plan.
  void begin_again();
  // False, and nothing changed: there is no such share, or the limits do not allow it.
  bool apply(const Move& move, size_t window, int64_t blocks, Amounts& amounts);
  Full full(size_t window, const Amounts& amounts) const;

 private:
  static constexpr size_t kNoWindow = ~size_t{0};
  // What `kept_window` fetches for `kept_consumer` is not touched.
  void keep_to_budget(Amounts& amounts, size_t kept_window, int32_t kept_consumer) const;
  void hold(std::vector<int64_t>& held, size_t window, int32_t consumer, int64_t blocks) const;
  std::vector<int64_t> held_blocks(const Amounts& amounts) const;
  std::vector<int64_t> left_blocks(const Amounts& amounts) const;
  bool grow(size_t window, size_t which, int64_t blocks, Amounts& amounts);
  void shrink(size_t window, const Share& share, int64_t blocks, Amounts& amounts) const;
  bool shift(size_t from, size_t to, const Share& share, int64_t taken,
             std::optional<int64_t> given_instead, Amounts& amounts);
  bool extend(size_t window, const Share& share, int64_t blocks, Amounts& amounts);
  int32_t consumer_ahead(size_t window, size_t which) const;
  bool fetch_more(size_t window, int32_t consumer, int64_t blocks, Amounts& amounts);
  int64_t room(size_t window, int32_t consumer) const;
  int64_t spare(size_t window, const Amounts& amounts) const;

  const WindowRing& ring_;
  PlanLimits limits_;
  int64_t least_blocks_ = 1, budget_blocks_ = 0;
  std::vector<int64_t> left_of_plan_, held_by_plan_;  // by consumer; by window
  std::vector<int64_t> left_, held_;                  // the changes so far included
};

int64_t sum(const WindowShares& shares);

}  // namespace preserve
