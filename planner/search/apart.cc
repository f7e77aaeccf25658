// SPDX-License-Identifier: Apache-2.0
#include "planner/search/apart.h"

#include <algorithm>

namespace preserve {

size_t WindowsApart::reach(const WindowRing& ring, const Amounts& amounts, size_t window) {
  const WindowShares& shares = amounts[window];
  size_t windows = 1;
  if (shares.empty()) return windows;
  const int64_t until = ring.distance(window, shares.back().consumer);
  for (size_t i = ring.next(window); i != window && ring.distance_to_window(window, i) < until;
       i = ring.next(i)) {
    ++windows;
  }
  return windows;
}

void WindowsApart::begin(const Amounts& amounts) {
  reach_.resize(amounts.size());
  for (size_t window = 0; window < reach_.size(); ++window) {
    reach_[window] = std::min(reach(ring_, amounts, window), reach_.size() - 1);
  }
}

bool WindowsApart::is_apart(size_t window) const {
  if (beside_[window] != Beside::nothing) return false;
  size_t next = window;
  for (size_t i = 0; i < reach_[window]; ++i) {
    next = ring_.next(next);
    if (beside_[next] == Beside::changed) return false;
  }
  return true;
}

void WindowsApart::occupy(size_t window) {
  beside_[window] = Beside::changed;
  size_t next = window;
  for (size_t i = 0; i < reach_[window]; ++i) {
    next = ring_.next(next);
    if (beside_[next] == Beside::nothing) beside_[next] = Beside::held;
  }
}

}  // namespace preserve
