// SPDX-License-Identifier: Apache-2.0
// Time of a matrix product or of a layer's decode attention from the tables of a device file. The
// factor of a table is interpolated linearly in the logarithms of its axes, and that of the nearest
// edge holds outside them, where the line by bytes continues.
#pragma once

#include <array>
#include <string_view>

#include "planner/schedule/device.h"

namespace preserve {

// nullptr when the device file has none.
const OperatorTable* find_operator_table(const DeviceModel& device, std::string_view operation,
                                         std::string_view dtype);

struct OperatorTime {
  double dur_ns = 0;
  bool extrapolated = false;  // outside the range measured
};

// `place`: on the table's axes, positive. `size_bytes`: read from memory.
OperatorTime operator_time(const OperatorTable& table, std::array<double, 3> place,
                           double size_bytes);

}  // namespace preserve
