// SPDX-License-Identifier: Apache-2.0
// The statistics every stage shares: robust location and spread, and the verdict on a paired
// comparison. Pure functions; deterministic for a given seed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace preserve {

// Median; the mean of the two middle values for an even count. values must not be empty.
double median(std::span<const double> values);
// Median absolute deviation from the median, unscaled.
double median_abs_deviation(std::span<const double> values);
// Linear-interpolated quantile, q in [0,1]. values must not be empty.
double quantile(std::span<const double> values, double q);

struct Interval {
  double low = 0, estimate = 0, high = 0;
};

// Median and the narrowest pair of values, as far from the lower end as from the upper one, that
// hold the true median with at least `level` whatever the distribution (the sign test; David &
// Nagaraja 2003, section 7.1). A bootstrap of so few values is narrower, and holds it in 93 of 100.
// With fewer than six values none does at 0.95: then smallest and largest.
Interval median_interval(std::span<const double> values, double level = 0.95);

// Percentile bootstrap of the geometric mean (Efron & Tibshirani 1993, ch. 13): `level` is the
// coverage, `seed` fixes the resampling. Values must be positive. Of one value: itself.
Interval bootstrap_geometric_mean(std::span<const double> values, double level = 0.95,
                                  int resamples = 2000, uint64_t seed = 1);

// Fewer pairs than this make no interval: it would reach from the smallest ratio to the largest.
inline constexpr int kFewestPairs = 10;

// What a measured speed-up interval says. `tolerance` is the largest change that does not matter.
//   FAST  whole interval above 1 + tolerance       SLOW  whole interval below 1 - tolerance
//   SAME  whole interval within 1 +- tolerance     AMBG  anything else: the data do not decide
enum class Verdict { fast, same, slow, ambiguous };
inline constexpr double kVerdictTolerance = 0.005;
Verdict judge_speedup(const Interval& speedup, double tolerance = kVerdictTolerance);
std::string_view to_string(Verdict verdict);  // "FAST", "SAME", "SLOW", "AMBG"

// The measured speed-up of one plan over the baseline.
struct PairedSpeedup {
  Interval interval{1, 1, 1};
  int64_t pairs = 0;
};
// Significantly faster: enough pairs, and the whole interval above 1.
bool surely_faster(const PairedSpeedup& plan);
// The plan to choose: of those that are significantly faster the one whose interval begins highest,
// which is what it can be relied on to gain. Nothing: the baseline stays.
std::optional<size_t> find_winner(std::span<const PairedSpeedup> plans);

}  // namespace preserve
