// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

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

}  // namespace preserve
