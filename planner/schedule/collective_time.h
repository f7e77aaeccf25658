// SPDX-License-Identifier: Apache-2.0
// Time of a collective from the fits of a device file: on a fitted piece its line, between pieces
// and between numbers of ranks a straight line, outside the nearest line continued (and marked so).
#pragma once

#include <cstdint>
#include <string>

#include "planner/schedule/device.h"

namespace preserve {

struct CollectiveTime {
  double dur_ns = 0;
  std::string library;
  bool extrapolated = false;   // message size outside what was fitted
  bool between_ranks = false;  // this number of ranks was not fitted, one above and one below were
};

// Of several libraries the first in the device file counts. Throws input_error, naming the ranks
// that it has, when the device has no fit of `function` for `ranks`.
CollectiveTime collective_time(const DeviceModel& device, const std::string& function,
                               int64_t ranks, int64_t bytes);

}  // namespace preserve
