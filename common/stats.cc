// SPDX-License-Identifier: Apache-2.0
#include "common/stats.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "common/enum_words.h"
#include "common/error.h"

namespace preserve {
namespace {

// Rearranges `values`.
double median_in_place(std::vector<double>& values) {
  if (values.empty()) throw internal_error("median of no values");
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

// Unbiased index below n: std::uniform_int_distribution is not the same on every library, and the
// same seed must give the same bytes everywhere.
size_t index_below(std::mt19937_64& random, size_t n) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<size_t>((static_cast<Wide>(random()) * n) >> 64);
}

double geometric_mean(std::span<const double> values) {
  if (values.empty()) throw internal_error("mean of no values");
  double sum = 0;
  for (const double value : values) {
    if (!(value > 0)) throw internal_error("geometric mean of {}", value);
    sum += std::log(value);
  }
  return std::exp(sum / static_cast<double>(values.size()));
}

}  // namespace

double median(std::span<const double> values) {
  if (values.size() == 1) return values[0];  // of each operator of a step that ran once
  std::vector<double> copy(values.begin(), values.end());
  return median_in_place(copy);
}

double median_abs_deviation(std::span<const double> values) {
  if (values.size() == 1) return 0;
  const double center = median(values);
  std::vector<double> deviations(values.begin(), values.end());
  for (double& value : deviations) value = std::fabs(value - center);
  return median_in_place(deviations);
}

double quantile(std::span<const double> values, double q) {
  if (values.empty()) throw internal_error("quantile of no values");
  std::vector<double> ordered(values.begin(), values.end());
  const double position = std::clamp(q, 0.0, 1.0) * static_cast<double>(ordered.size() - 1);
  const auto below = static_cast<int64_t>(position);
  const auto at = ordered.begin() + below;
  std::nth_element(ordered.begin(), at, ordered.end());
  const double above = at + 1 == ordered.end() ? *at : *std::min_element(at + 1, ordered.end());
  return *at + (position - static_cast<double>(below)) * (above - *at);
}

Interval median_interval(std::span<const double> values, double level) {
  std::vector<double> sorted(values.begin(), values.end());
  if (sorted.empty()) throw internal_error("median of no values");
  std::ranges::sort(sorted);
  const size_t n = sorted.size();
  // The lower end has this rank, counted from 1; the upper one is as far from the top.
  size_t rank = (n + 1) / 2;
  double chance = 1;  // that exactly `rank` of n fair coins fall on one side
  for (size_t i = 1; i <= n / 2; ++i) {
    chance *= static_cast<double>(2 * i - 1) / static_cast<double>(2 * i);
  }
  if (n % 2 == 1) chance *= static_cast<double>(n) / static_cast<double>(n + 1);
  double coverage = n % 2 == 1 ? 0 : chance;
  while (coverage < level && rank > 1) {
    chance *= static_cast<double>(rank) / static_cast<double>(n - rank + 1);
    --rank;
    coverage += 2 * chance;
  }
  return {sorted[rank - 1], (sorted[(n - 1) / 2] + sorted[n / 2]) / 2, sorted[n - rank]};
}

Interval bootstrap_geometric_mean(std::span<const double> values, double level, int resamples,
                                  uint64_t seed) {
  std::vector<double> draw(values.begin(), values.end());
  const double estimate = geometric_mean(draw);
  if (values.size() < 2) return {estimate, estimate, estimate};
  std::mt19937_64 random(seed);
  std::vector<double> results(static_cast<size_t>(resamples));
  for (double& result : results) {
    for (double& value : draw) value = values[index_below(random, values.size())];
    result = geometric_mean(draw);
  }
  const double tail = (1 - level) / 2;
  return {quantile(results, tail), estimate, quantile(results, 1 - tail)};
}

Verdict judge_speedup(const Interval& speedup, double tolerance) {
  if (speedup.low > 1 + tolerance) return Verdict::fast;
  if (speedup.high < 1 - tolerance) return Verdict::slow;
  if (speedup.low >= 1 - tolerance && speedup.high <= 1 + tolerance) return Verdict::same;
  return Verdict::ambiguous;
}

std::string_view to_string(Verdict verdict) {
  constexpr std::string_view kWords[] = {"FAST", "SAME", "SLOW", "AMBG"};
  return word_of(kWords, verdict);
}

bool surely_faster(const PairedSpeedup& plan) {
  return plan.pairs >= kFewestPairs && plan.interval.low > 1;
}

std::optional<size_t> find_winner(std::span<const PairedSpeedup> plans) {
  std::optional<size_t> best;
  for (size_t i = 0; i < plans.size(); ++i) {
    if (!surely_faster(plans[i])) continue;
    if (!best || plans[i].interval.low > plans[*best].interval.low) best = i;
  }
  return best;
}

}  // namespace preserve
