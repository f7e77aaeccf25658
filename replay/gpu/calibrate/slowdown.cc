// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/calibrate/slowdown.h"

#include <algorithm>
#include <cmath>

#include "common/enum_words.h"
#include "common/error.h"
#include "common/stats.h"
#include "common/units.h"
#include "replay/gpu/calibrate/fits.h"

namespace preserve {
namespace {

// Of the operator's time alone: where the interval leaves more of it open on either side, the
// figure does not repeat.
constexpr double kRepeats = 0.05;

double rounded(double slowdown_ns) {
  return std::round(std::clamp(slowdown_ns, 0.0, kMostSlowdownNs) * 1e9) / 1e9;
}

}  // namespace

Series slowdown_per_byte(const OperatorTimes& times, double prefetch_bytes_per_s,
                         double memory_bytes_per_s) {
  const double memory = memory_bytes_per_s / kNsPerS;
  const double prefetch = std::min(prefetch_bytes_per_s / kNsPerS, memory);  // as in the model
  Series slowdowns = minus(times.beside_ns, times.alone_ns);
  for (size_t i = 0; i < slowdowns.size(); ++i) {
    const double demand =
        std::min(memory, static_cast<double>(times.bytes) / std::max(times.alone_ns[i], 1.0));
    const double sharing = std::max(0.0, demand + prefetch - memory) / (prefetch * memory);
    slowdowns[i] = slowdowns[i] / static_cast<double>(times.fetched_bytes) - sharing;
  }
  return slowdowns;
}

void add_slowdowns(const GpuCalibrationSamples& samples, DeviceModel& device) {
  for (const OperatorTimes& times : samples.operators) {
    for (PrefetchMethod& method : device.methods) {
      const bool same = method.name == word_of(kGpuFetchWords, times.issue.fetch) &&
                        method.ctas == times.issue.ctas &&
                        method.chunk_bytes == times.issue.chunk_bytes;
      if (!same || times.alone_ns.empty() || times.fetched_bytes <= 0) continue;
      const Series slowdowns = slowdown_per_byte(times, method.bandwidth_bytes_per_s,
                                                 device.memory_bandwidth_bytes_per_s);
      const Interval interval = median_interval(slowdowns);
      const double open_ns =
          (interval.high - interval.low) / 2 * static_cast<double>(times.fetched_bytes);
      const std::string figure = slowdown_figure(method, times.of);
      if (open_ns > kRepeats * median(times.alone_ns)) {
        device.notes.push_back(
            fmt::format("{}: not known, its rounds differ: {:.3g} to {:.3g} ns per byte", figure,
                        interval.low, interval.high));
        continue;
      }
      method.operator_slowdown_per_byte_ns[times.of] = rounded(interval.estimate);
      if (find_interval(device, figure) != nullptr) continue;  // of its like that evicts otherwise
      device.intervals.push_back({figure, rounded(interval.low), rounded(interval.high),
                                  static_cast<int64_t>(slowdowns.size())});
    }
  }
}

}  // namespace preserve
