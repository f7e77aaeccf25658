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

namespace {

// A byte that is lost has pushed out another one, so it costs what a hit gains.
double surplus(const SurvivalPoint& point) {
  return static_cast<double>(point.footprint_bytes) * (2 * point.hit_fraction - 1);
}

}  // namespace

int64_t cache_budget(const std::vector<SurvivalPoint>& survival, int64_t share_bytes) {
  int64_t budget_bytes = 0;
  double best = 0;
  for (const SurvivalPoint& point : survival) {
    const double worth = surplus(point);
    if (worth <= best) continue;
    best = worth;
    budget_bytes = point.footprint_bytes;
  }
  return std::min(budget_bytes, share_bytes);
}

int64_t cache_budget_between(const std::vector<SurvivalPoint>& survival, int64_t share_bytes) {
  constexpr double kEnough = 0.95;
  double most = 0;
  for (const SurvivalPoint& point : survival) {
    if (point.footprint_bytes <= share_bytes) most = std::max(most, surplus(point));
  }
  if (most <= 0) return 0;
  double low_bytes = 0, low = 0;
  for (const SurvivalPoint& point : survival) {
    const auto bytes = static_cast<double>(point.footprint_bytes);
    const double worth = surplus(point);
    if (worth >= kEnough * most) {
      const double part = worth > low ? (kEnough * most - low) / (worth - low) : 1;
      return std::min(static_cast<int64_t>(low_bytes + part * (bytes - low_bytes)), share_bytes);
    }
    low_bytes = bytes;
    low = worth;
  }
  return 0;
}

}  // namespace preserve
