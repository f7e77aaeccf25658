// SPDX-License-Identifier: Apache-2.0
// A scenario's operators gathered over the layers of the model: where the gain is. Internal to the
// reports library.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reports/model/report.h"

namespace preserve::report {

// Operators of one class whose names differ in layer numbers alone; times are sums per step on the
// planned rank.
struct OperatorGain {
  std::string name, kind;
  int64_t operators = 0, recorded_ns = 0, baseline_ns = 0, prefetch_ns = 0;
  int64_t predicted_saved_ns = 0;

  int64_t saved_ns() const { return baseline_ns - prefetch_ns; }
};

// Of the operators that were timed in both arms, those that changed most first.
std::vector<OperatorGain> operator_gains(const Scenario& scenario);

}  // namespace preserve::report
