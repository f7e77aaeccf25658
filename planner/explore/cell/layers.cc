// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/cell/layers.h"

#include <algorithm>

namespace preserve {
namespace {

constexpr int64_t kLongestPeriod = 16;

// Layers from which on each equals the one `period` before it, less the period itself.
int64_t head_of(const std::vector<LayerShape>& layers, int64_t period) {
  auto head = static_cast<int64_t>(layers.size()) - period;
  while (head > 0 &&
         layers[static_cast<size_t>(head - 1)] == layers[static_cast<size_t>(head - 1 + period)]) {
    --head;
  }
  return head;
}

}  // namespace

LayerCycle find_cycle(const std::vector<LayerShape>& layers) {
  const auto count = static_cast<int64_t>(layers.size());
  LayerCycle best{0, std::max<int64_t>(1, count)};
  for (int64_t period = 1; period <= std::min(kLongestPeriod, count / 2); ++period) {
    const LayerCycle cycle{head_of(layers, period), period};
    if (cycle.head + cycle.period < best.head + best.period) best = cycle;
  }
  return best;
}

KeptLayers keep_layers(int64_t layers, const LayerCycle& cycle, int64_t fewest) {
  constexpr int64_t kFewestPeriods = 4;
  const int64_t periods = std::max(kFewestPeriods, (fewest + cycle.period - 1) / cycle.period);
  const int64_t repeated = periods * cycle.period;
  const int64_t left_out = (layers - cycle.head - repeated) / cycle.period * cycle.period;
  if (left_out <= 0) return {.kept = layers, .left_out = 0};
  return {.kept = layers - left_out, .left_out = left_out};
}

}  // namespace preserve
