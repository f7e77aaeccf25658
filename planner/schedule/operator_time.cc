// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/operator_time.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/units.h"

namespace preserve {
namespace {

// Between knot `low` and the next one; `share` of the next.
struct Cell {
  size_t low = 0;
  double share = 0;
};

Cell cell_of(const std::vector<int64_t>& knots, double value) {
  if (value <= static_cast<double>(knots.front())) return {};
  const auto above = std::ranges::find_if(
      knots, [value](int64_t knot) { return value < static_cast<double>(knot); });
  if (above == knots.end()) return {knots.size() - 1, 0};
  const auto low = static_cast<double>(*(above - 1)), high = static_cast<double>(*above);
  return {static_cast<size_t>(above - knots.begin()) - 1,
          std::log(value / low) / std::log(high / low)};
}

// Linear between grid points along `axis` and those after it, from `index` of the axes before.
double log_factor(const OperatorTable& table, const std::array<Cell, 3>& cells, size_t axis,
                  size_t index) {
  if (axis == cells.size()) return std::log(table.factors[index]);
  const auto& [low, share] = cells[axis];
  const size_t at = index * table.axes[axis].knots.size() + low;
  const double value = log_factor(table, cells, axis + 1, at);
  if (share == 0) return value;
  return value + share * (log_factor(table, cells, axis + 1, at + 1) - value);
}

}  // namespace

const OperatorTable* find_operator_table(const DeviceModel& device, std::string_view operation,
                                         std::string_view dtype) {
  const auto found = std::ranges::find_if(device.operators, [&](const OperatorTable& table) {
    return table.operation == operation && table.dtype == dtype;
  });
  return found == device.operators.end() ? nullptr : &*found;
}

OperatorTime operator_time(const OperatorTable& table, std::array<double, 3> place,
                           double size_bytes) {
  OperatorTime time;
  std::array<Cell, 3> cells;
  for (size_t i = 0; i < cells.size(); ++i) {
    const std::vector<int64_t>& knots = table.axes[i].knots;
    cells[i] = cell_of(knots, place[i]);
    time.extrapolated = time.extrapolated || place[i] < static_cast<double>(knots.front()) ||
                        place[i] > static_cast<double>(knots.back());
  }
  const double line_ns = table.latency_ns + size_bytes / table.bandwidth_bytes_per_s * kNsPerS;
  time.dur_ns = line_ns * std::exp(log_factor(table, cells, 0, 0));
  return time;
}

}  // namespace preserve
