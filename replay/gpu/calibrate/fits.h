// SPDX-License-Identifier: Apache-2.0
// Arithmetic on aligned series and the two straight lines that a calibration is made of.
#pragma once

#include <vector>

#include "replay/gpu/calibrate/calibration.h"

namespace preserve {

// Per round; all of one length.
Series minus(const Series& left, const Series& right);
Series divided(const Series& left, const Series& right);  // 0 where right is not positive
Series rates(int64_t bytes, const Series& dur_ns);        // bytes/s
Series scaled(Series values, double factor);

// What one leaf adds to the launch or to the step of a chain, with leaves next to as many different
// nodes as were tried. Empty: it was not tried.
Series added_by_leaf(const GpuCalibrationSamples& samples, Series LeafTimes::*times);

// Share of the bytes that were read as fast as `hot_ns` and not as slowly as `cold_ns`. What noise
// puts outside 0..1 stays there: clamping each round would shift the median.
Series hit_share(const Series& cold_ns, const Series& read_ns, const Series& hot_ns);

// The entry of those bytes, which must be there.
const FootprintTimes& cold_read_of(const std::vector<FootprintTimes>& times, int64_t bytes);
// Reading those bytes when all of them are there: what this way of issuing left in the cache, where
// that was measured; else what a read left there.
const Series& warm_read_of(const std::vector<ArrivedTimes>& arrived, const GpuIssue& issue,
                           const FootprintTimes& reference);

// Time of reading cached bytes = ramp + bytes / bandwidth.
struct ReadFit {
  double bandwidth_bytes_per_s = 0;  // 0: the points show none
  double ramp_ns = 0;
  double time_ns(int64_t bytes) const;
};
struct SizedTime {
  int64_t bytes = 0;
  double dur_ns = 0;
};
// Through the median of the slopes between all points (Theil 1950, Sen 1968).
ReadFit fit_reads(const std::vector<SizedTime>& points);

// Of reading again what was read, of footprints that the cache surely holds.
ReadFit fit_again(const GpuCalibrationSamples& samples);
// Of reading what was fetched in that way.
ReadFit fit_arrived(const std::vector<ArrivedTimes>& arrived, const GpuIssue& issue);

// What a window saved the consumer, as the share of its bytes that would save as much by being
// cached before it begins; per round. Empty when it cannot be told because reading them cold takes
// no longer than reading them cached.
Series saved_share(const WindowTimes& window, const std::vector<FootprintTimes>& references,
                   const std::vector<ArrivedTimes>& arrived);

// Bytes per second of a window that its saving is worth, roughly: with the start in it; 0: none.
double saving_rate(const GpuIssue& issue, const std::vector<WindowTimes>& windows,
                   const std::vector<FootprintTimes>& references);

// A prefetch goes on while its consumer reads what is there already, so a window saves as much as
// more bytes than were there at its end: n = n0 x h / (h - b), where the consumer reads hits at h
// and follows the prefetch, which goes on at b. From the rate that saves as much, the rate b.
double without_trailing(double saving_bytes_per_s, double hit_bytes_per_s);

// How a ramp grows: windows that save the same large share, against the bytes that are saved. Per
// round; empty: it cannot be told.
struct RampFit {
  Series saving_bytes_per_s;  // how much more a longer window saves; of the leaf
  Series start_ns;            // window that saves nothing yet
};
// The leaf of that way of issuing.
const RampTimes& leaf_of(const GpuCalibrationSamples& samples, const RampTimes& ramp);
RampFit fit_ramp(const GpuCalibrationSamples& samples, const RampTimes& ramp);

// Rate at which prefetched bytes arrive; per round.
Series prefetch_rates(const GpuCalibrationSamples& samples, const RampTimes& leaf);

// Rate at which prefetch kernels of that issue ended, against their size; per round.
Series retired_rates(const GpuIssue& issue, const std::vector<RetiredTimes>& retired);

}  // namespace preserve
