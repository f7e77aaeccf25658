// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/collective_time.h"

#include <algorithm>
#include <map>
#include <vector>

#include "common/error.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

double on_line(const CollectiveFit& fit, int64_t bytes) {
  return fit.latency_ns + static_cast<double>(bytes) / fit.bandwidth_bytes_per_s * kNsPerS;
}

double between(double low, double low_value, double high, double high_value, double at) {
  return low_value + (high_value - low_value) * (at - low) / (high - low);
}

// `pieces` of one curve by ascending size.
CollectiveTime on_curve(const std::vector<const CollectiveFit*>& pieces, int64_t bytes) {
  CollectiveTime time;
  time.library = pieces.front()->library;
  const auto above = std::ranges::find_if(pieces, [&](const CollectiveFit* piece) {
    return piece->max_bytes == 0 || bytes <= piece->max_bytes;
  });
  if (above == pieces.end()) {
    time.dur_ns = on_line(*pieces.back(), bytes);
    time.extrapolated = true;
  } else if (bytes >= (*above)->min_bytes) {
    time.dur_ns = on_line(**above, bytes);
  } else if (above == pieces.begin()) {
    // Below the smallest size latency is all there is: the line would only subtract from it.
    time.dur_ns = on_line(**above, (*above)->min_bytes);
    time.extrapolated = true;
  } else {
    const CollectiveFit& low = **(above - 1);
    const CollectiveFit& high = **above;
    time.dur_ns = between(static_cast<double>(low.max_bytes), on_line(low, low.max_bytes),
                          static_cast<double>(high.min_bytes), on_line(high, high.min_bytes),
                          static_cast<double>(bytes));
  }
  return time;
}

}  // namespace

CollectiveTime collective_time(const DeviceModel& device, const std::string& function,
                               int64_t ranks, int64_t bytes) {
  std::map<int64_t, std::vector<const CollectiveFit*>> curves;  // by ranks
  const std::string* library = nullptr;
  for (const CollectiveFit& fit : device.collectives) {
    if (fit.function != function) continue;
    if (library == nullptr) library = &fit.library;
    if (fit.library == *library) curves[fit.ranks].push_back(&fit);
  }
  for (auto& [count, pieces] : curves) {
    std::ranges::stable_sort(pieces, {}, &CollectiveFit::min_bytes);
  }
  const auto high = curves.lower_bound(ranks);
  if (high != curves.end() && high->first == ranks) return on_curve(high->second, bytes);
  if (high != curves.end() && high != curves.begin()) {
    const auto low = std::prev(high);
    const CollectiveTime below = on_curve(low->second, bytes);
    CollectiveTime time = on_curve(high->second, bytes);
    time.dur_ns =
        between(static_cast<double>(low->first), below.dur_ns, static_cast<double>(high->first),
                time.dur_ns, static_cast<double>(ranks));
    time.extrapolated = time.extrapolated || below.extrapolated;
    time.between_ranks = true;
    return time;
  }
  std::vector<int64_t> known;
  known.reserve(curves.size());
  for (const auto& [count, pieces] : curves) known.push_back(count);
  throw input_error(
      "device {} has no {} time for {} (it has {}): measure it with preserve-calibrate, fit "
      "a table with scripts/fit-collectives, or give it with --allreduce-time",
      device.name, function, count_of(ranks, "rank"),
      known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", ")));
}

}  // namespace preserve
