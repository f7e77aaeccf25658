// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>

#include "common/stats.h"

namespace preserve {

// A measured median and, when at least kFewestPairs pairs were counted, its confidence interval.
struct Estimated {
  double estimate = 1;
  std::optional<double> low{}, high{};  // both or none

  std::optional<Interval> interval() const {
    if (!low || !high) return std::nullopt;
    return Interval{*low, estimate, *high};
  }
};

// Of the values of as many pairs; nothing of none.
inline std::optional<Estimated> estimated_median(std::span<const double> values, double level) {
  if (values.empty()) return std::nullopt;
  const Interval interval = median_interval(values, level);
  if (values.size() < kFewestPairs) return Estimated{interval.estimate};
  return Estimated{interval.estimate, interval.low, interval.high};
}

}  // namespace preserve
