// SPDX-License-Identifier: Apache-2.0
#include "replay/calibrate/survival.h"

#include <algorithm>
#include <cmath>

namespace preserve {

std::vector<SurvivalPoint> never_rising(const std::vector<SurvivalPoint>& measured) {
  // Isotonic regression by pooling adjacent violators (Barlow et al. 1972): neighbours that rise
  // are averaged, so one disturbed point bends the curve only where it stands.
  struct Pool {
    double sum = 0;
    size_t points = 0;
    double mean() const { return sum / static_cast<double>(points); }
  };
  std::vector<Pool> pools;
  for (const SurvivalPoint& point : measured) {
    pools.push_back({std::clamp(point.hit_fraction, 0.0, 1.0), 1});
    while (pools.size() > 1 && pools[pools.size() - 2].mean() < pools.back().mean()) {
      pools[pools.size() - 2].sum += pools.back().sum;
      pools[pools.size() - 2].points += pools.back().points;
      pools.pop_back();
    }
  }
  std::vector<SurvivalPoint> curve;
  for (const Pool& pool : pools) {
    for (size_t i = 0; i < pool.points; ++i) {
      curve.push_back(
          {measured[curve.size()].footprint_bytes, std::round(pool.mean() * 1000) / 1000});
    }
  }
  return curve;
}

int64_t cache_budget(const std::vector<SurvivalPoint>& survival, int64_t share_bytes) {
  // A byte that is lost has pushed out another one, so it costs what a hit gains: the best
  // footprint maximises hits minus losses.
  int64_t budget_bytes = 0;
  double best = 0;
  for (const SurvivalPoint& point : survival) {
    const auto footprint = static_cast<double>(point.footprint_bytes);
    const double worth = footprint * (2 * point.hit_fraction - 1);
    if (worth <= best) continue;
    best = worth;
    budget_bytes = point.footprint_bytes;
  }
  return std::min(budget_bytes, share_bytes);
}

}  // namespace preserve
