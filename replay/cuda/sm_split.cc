// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/sm_split.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace preserve::cuda {
namespace {

constexpr double kLeastRatio = 1.15;
constexpr double kWidestSpread = 0.25;  // standard deviation in a group over the distance of means

struct Group {
  double mean = 0, squares = 0;  // squares: sum of squared distances from the mean
  double deviation(size_t count) const { return std::sqrt(squares / static_cast<double>(count)); }
};

Group group_of(std::span<const double> values) {
  Group group;
  group.mean =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  for (const double value : values) group.squares += (value - group.mean) * (value - group.mean);
  return group;
}

}  // namespace

std::optional<SmSplit> split_sms(std::span<const double> latencies) {
  std::vector<double> sorted(latencies.begin(), latencies.end());
  std::ranges::sort(sorted);
  const size_t least = std::max<size_t>(2, (sorted.size() + 3) / 4);
  if (sorted.size() < 2 * least || sorted.front() <= 0) return std::nullopt;
  size_t cut = 0;
  double best = std::numeric_limits<double>::infinity();
  for (size_t i = least; i + least <= sorted.size(); ++i) {
    const std::span<const double> all(sorted);
    const double squares = group_of(all.first(i)).squares + group_of(all.subspan(i)).squares;
    if (squares < best) {
      best = squares;
      cut = i;
    }
  }
  const Group near = group_of(std::span(sorted).first(cut));
  const Group far = group_of(std::span(sorted).subspan(cut));
  const double distance = far.mean - near.mean;
  if (far.mean < kLeastRatio * near.mean || near.deviation(cut) > kWidestSpread * distance ||
      far.deviation(sorted.size() - cut) > kWidestSpread * distance) {
    return std::nullopt;
  }
  const double border = (sorted[cut - 1] + sorted[cut]) / 2;
  const bool first_is_far = latencies[0] > border;
  SmSplit split{.ratio = far.mean / near.mean};
  for (const double latency : latencies) {
    split.halves.push_back((latency > border) == first_is_far ? 1 : 2);
  }
  return split;
}

}  // namespace preserve::cuda
