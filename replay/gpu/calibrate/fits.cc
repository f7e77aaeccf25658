// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/calibrate/fits.h"

#include <algorithm>
#include <map>

#include "common/error.h"
#include "common/stats.h"
#include "common/units.h"
#include "replay/gpu/calibrate/graphs.h"

namespace preserve {
namespace {

// Above it the prefetch may have been through before the window ended.
constexpr double kThrough = 0.95;
// No memory is faster, so a steeper line is noise. A file with such a rate would be refused.
constexpr double kFastestBytesPerS = 1e15;
// Where windows of all sizes are compared: the same share everywhere, so that the part of a read
// that competes with the rest of its prefetch is the same too, and large, so that it is small.
constexpr double kRampShare = 0.75;

template <typename Combine>
Series combine(const Series& left, const Series& right, Combine&& one) {
  if (left.size() != right.size()) throw internal_error("series of different rounds");
  Series result(left.size());
  for (size_t i = 0; i < left.size(); ++i) result[i] = one(left[i], right[i]);
  return result;
}

struct Point {
  double x = 0, y = 0;
};

// Median of the slopes between all points whose x differ; 0 when there are none.
double median_slope(const std::vector<Point>& points) {
  std::vector<double> slopes;
  for (size_t i = 0; i < points.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const double run = points[i].x - points[j].x;
      if (run != 0) slopes.push_back((points[i].y - points[j].y) / run);
    }
  }
  return slopes.empty() ? 0 : median(slopes);
}

struct WindowPoint {
  double window_ns = 0;
  double share = 0;  // saved
};

// The window that saves kRampShare; points by growing windows. 0: it is not among them.
double ramp_window_ns(const std::vector<WindowPoint>& points) {
  for (size_t i = 0; i < points.size(); ++i) {
    if (points[i].share < kRampShare) continue;
    if (i == 0) return 0;  // all of them save more
    const WindowPoint& before = points[i - 1];
    const double part = (kRampShare - before.share) / (points[i].share - before.share);
    return before.window_ns + part * (points[i].window_ns - before.window_ns);
  }
  return 0;
}

using Sizes = std::map<int64_t, std::vector<WindowPoint>>;  // by bytes

std::vector<Sizes> rounds_of(const GpuCalibrationSamples& samples, const RampTimes& ramp) {
  std::vector<Sizes> rounds;
  for (const WindowTimes& window : ramp.windows) {
    const Series shares = saved_share(window, samples.references, samples.arrived);
    rounds.resize(std::max(rounds.size(), shares.size()));
    for (size_t i = 0; i < shares.size(); ++i) {
      rounds[i][window.bytes].push_back({window.window_ns[i], shares[i]});
    }
  }
  return rounds;
}

// Windows against the bytes that they save.
std::vector<Point> ramp_points(const Sizes& sizes) {
  std::vector<Point> points;
  for (const auto& [bytes, windows] : sizes) {
    const double window_ns = ramp_window_ns(windows);
    if (window_ns > 0) points.push_back({window_ns, kRampShare * static_cast<double>(bytes)});
  }
  return points;
}

// What is true of a prefetch however late it began.
double least_rate(const Sizes& sizes) {
  double least = 0;
  for (const auto& [bytes, windows] : sizes) {
    for (const WindowPoint& window : windows) {
      least = std::max(least, window.share * static_cast<double>(bytes) * kNsPerS /
                                  std::max(window.window_ns, 1.0));
    }
  }
  return least;
}

}  // namespace

Series minus(const Series& left, const Series& right) {
  return combine(left, right, [](double a, double b) { return a - b; });
}

Series divided(const Series& left, const Series& right) {
  return combine(left, right, [](double a, double b) { return b > 0 ? a / b : 0; });
}

Series scaled(Series values, double factor) {
  for (double& value : values) value *= factor;
  return values;
}

Series added_by_leaf(const GpuCalibrationSamples& samples, Series LeafTimes::*times) {
  const LeafTimes* none = nullptr;
  const LeafTimes* most = nullptr;
  for (const LeafTimes& one : samples.leaves) {
    if (one.leaves == 0) none = &one;
    if (one.leaves > 0 && one.leaves <= kLeafPlaces) most = &one;
  }
  if (none == nullptr || most == nullptr) return {};
  return scaled(minus(most->*times, none->*times), 1.0 / most->leaves);
}

Series rates(int64_t bytes, const Series& dur_ns) {
  Series result;
  for (const double one_ns : dur_ns) {
    result.push_back(static_cast<double>(bytes) * kNsPerS / std::max(one_ns, 1.0));
  }
  return result;
}

Series hit_share(const Series& cold_ns, const Series& read_ns, const Series& hot_ns) {
  return divided(minus(cold_ns, read_ns), minus(cold_ns, hot_ns));
}

const FootprintTimes& cold_read_of(const std::vector<FootprintTimes>& times, int64_t bytes) {
  for (const FootprintTimes& one : times) {
    if (one.bytes == bytes) return one;
  }
  throw internal_error("no cold read of {} bytes", bytes);
}

const Series& warm_read_of(const std::vector<ArrivedTimes>& arrived, const GpuIssue& issue,
                           const FootprintTimes& reference) {
  for (const ArrivedTimes& one : arrived) {
    if (one.bytes == reference.bytes && one.issue == issue) return one.read_ns;
  }
  return reference.again_ns;
}

Series saved_share(const WindowTimes& window, const std::vector<FootprintTimes>& references,
                   const std::vector<ArrivedTimes>& arrived) {
  const FootprintTimes& reference = cold_read_of(references, window.bytes);
  // What this way of issuing leaves in the cache may be read more slowly than what a read left
  // there; the planner knows that rate, so here it must not count as bytes that are missing.
  const Series& hot_ns = warm_read_of(arrived, window.issue, reference);
  if (median(minus(reference.cold_ns, hot_ns)) <= 0) return {};
  return hit_share(reference.cold_ns, window.read_ns, hot_ns);
}

double ReadFit::time_ns(int64_t bytes) const {
  return ramp_ns + static_cast<double>(bytes) * kNsPerS / bandwidth_bytes_per_s;
}

ReadFit fit_reads(const std::vector<SizedTime>& points) {
  std::vector<Point> line;
  line.reserve(points.size());
  for (const SizedTime& point : points) {
    line.push_back({static_cast<double>(point.bytes), point.dur_ns});
  }
  const double ns_per_byte = median_slope(line);
  if (ns_per_byte < kNsPerS / kFastestBytesPerS) return {};
  std::vector<double> ramps_ns;
  ramps_ns.reserve(line.size());
  for (const Point& point : line) ramps_ns.push_back(point.y - ns_per_byte * point.x);
  return {kNsPerS / ns_per_byte, median(ramps_ns)};
}

ReadFit fit_again(const GpuCalibrationSamples& samples) {
  std::vector<SizedTime> points;
  for (const FootprintTimes& footprint : samples.footprints) {
    if (footprint.bytes > samples.facts.l2_bytes / 2) continue;
    points.push_back({footprint.bytes, median(footprint.again_ns)});
  }
  return fit_reads(points);
}

ReadFit fit_arrived(const std::vector<ArrivedTimes>& arrived, const GpuIssue& issue) {
  std::vector<SizedTime> points;
  for (const ArrivedTimes& one : arrived) {
    if (one.issue == issue) points.push_back({one.bytes, median(one.read_ns)});
  }
  return fit_reads(points);
}

double without_trailing(double saving_bytes_per_s, double hit_bytes_per_s) {
  if (hit_bytes_per_s <= 0 || saving_bytes_per_s <= 0) return saving_bytes_per_s;
  return saving_bytes_per_s * hit_bytes_per_s / (hit_bytes_per_s + saving_bytes_per_s);
}

double saving_rate(const GpuIssue& issue, const std::vector<WindowTimes>& windows,
                   const std::vector<FootprintTimes>& references) {
  double rate = 0, fastest = 0;
  for (const WindowTimes& window : windows) {
    if (!(window.issue == issue)) continue;
    const Series shares = saved_share(window, references, {});
    if (shares.empty()) continue;
    const double share = median(shares);
    const double saved = share * static_cast<double>(window.bytes) * kNsPerS /
                         std::max(median(window.window_ns), 1.0);
    fastest = std::max(fastest, saved);
    if (share < kThrough) rate = std::max(rate, saved);
  }
  // Through before even the shortest window ended: at least that fast, perhaps twice.
  return rate > 0 ? std::max(rate, fastest) : 2 * fastest;
}

const RampTimes& leaf_of(const GpuCalibrationSamples& samples, const RampTimes& ramp) {
  for (const RampTimes& other : samples.ramps) {
    if (other.way != StartWay::leaf) continue;
    if (other.windows.front().issue == ramp.windows.front().issue) return other;
  }
  throw internal_error("no leaf of that way of issuing");
}

RampFit fit_ramp(const GpuCalibrationSamples& samples, const RampTimes& ramp) {
  RampFit fit;
  for (const Sizes& sizes : rounds_of(samples, leaf_of(samples, ramp))) {
    const double slope = median_slope(ramp_points(sizes)) * kNsPerS;
    fit.saving_bytes_per_s.push_back(slope > 0 ? slope : least_rate(sizes));
  }
  if (fit.saving_bytes_per_s.empty()) return fit;
  const double bytes_per_ns = median(fit.saving_bytes_per_s) / kNsPerS;
  if (bytes_per_ns <= 0) return fit;  // what saves nothing has no start either
  for (const Sizes& sizes : rounds_of(samples, ramp)) {
    std::vector<double> starts_ns;
    for (const Point& point : ramp_points(sizes)) {
      starts_ns.push_back(point.x - point.y / bytes_per_ns);
    }
    if (!starts_ns.empty()) fit.start_ns.push_back(median(starts_ns));
  }
  return fit;
}

Series prefetch_rates(const GpuCalibrationSamples& samples, const RampTimes& leaf) {
  const double hit_bytes_per_s =
      fit_arrived(samples.arrived, leaf.windows.front().issue).bandwidth_bytes_per_s;
  Series arriving;
  for (const double slope : fit_ramp(samples, leaf).saving_bytes_per_s) {
    arriving.push_back(std::min(without_trailing(slope, hit_bytes_per_s), kFastestBytesPerS));
  }
  return arriving;
}

Series retired_rates(const GpuIssue& issue, const std::vector<RetiredTimes>& retired) {
  std::vector<std::vector<SizedTime>> rounds;
  for (const RetiredTimes& one : retired) {
    if (!(one.issue == issue)) continue;
    rounds.resize(std::max(rounds.size(), one.issue_ns.size()));
    for (size_t i = 0; i < one.issue_ns.size(); ++i) {
      rounds[i].push_back({one.bytes, one.issue_ns[i]});
    }
  }
  Series result;
  for (const auto& points : rounds) result.push_back(fit_reads(points).bandwidth_bytes_per_s);
  return result;
}

}  // namespace preserve
