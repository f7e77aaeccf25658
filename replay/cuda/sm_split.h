// SPDX-License-Identifier: Apache-2.0
// Which SMs belong together, from what one cache line is away from each. Pure.
#pragma once

#include <optional>
#include <span>
#include <vector>

namespace preserve::cuda {

struct SmSplit {
  std::vector<int> halves = {};  // by SM: 1 where SM 0 belongs, 2 elsewhere
  double ratio = 1;              // mean of the far group over that of the near one
};

// Splits the latencies into the two groups that differ least within. Nothing where the groups are
// less than 15 % apart, are wide compared with their distance (a slope, not a step), or one holds
// less than a quarter of the SMs.
std::optional<SmSplit> split_sms(std::span<const double> latencies);

}  // namespace preserve::cuda
