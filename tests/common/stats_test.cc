// SPDX-License-Identifier: Apache-2.0
#include "common/stats.h"

#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

#include "common/error.h"

namespace preserve {
namespace {

TEST(Stats, MedianAndSpread) {
  const std::vector<double> odd{5, 1, 3}, even{4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(median(odd), 3);
  EXPECT_DOUBLE_EQ(median(even), 2.5);
  EXPECT_DOUBLE_EQ(median_abs_deviation(odd), 2);
  EXPECT_DOUBLE_EQ(quantile(even, 0), 1);
  EXPECT_DOUBLE_EQ(quantile(even, 1), 4);
  EXPECT_DOUBLE_EQ(quantile(even, 0.5), 2.5);
}

RC_GTEST_PROP(Stats, MedianHasAsManyBelowAsAbove, (std::vector<int> values)) {
  RC_PRE(!values.empty());
  std::vector<double> reals(values.begin(), values.end());
  const double middle = median(reals);
  const auto below =
      std::count_if(reals.begin(), reals.end(), [&](double v) { return v < middle; });
  const auto above =
      std::count_if(reals.begin(), reals.end(), [&](double v) { return v > middle; });
  RC_ASSERT(2 * below <= static_cast<long>(reals.size()));
  RC_ASSERT(2 * above <= static_cast<long>(reals.size()));
}

// Values that are their own ranks, in an order that must not matter.
Interval ranks_of(int n, double level) {
  std::vector<double> values(static_cast<size_t>(n));
  std::iota(values.begin(), values.end(), 1.0);
  std::reverse(values.begin(), values.end());
  return median_interval(values, level);
}

TEST(MedianInterval, HasTheRanksOfTheSignTest) {
  // Of published tables (Dixon & Mood 1946: critical values of the sign test, both sides).
  const std::map<int, double> at_95{{6, 1},  {10, 2},  {12, 3},  {20, 6},
                                    {25, 8}, {50, 18}, {100, 40}};
  for (const auto& [n, low] : at_95) {
    const Interval found = ranks_of(n, 0.95);
    EXPECT_EQ(found.low, low) << n;
    EXPECT_EQ(found.high, n + 1 - low) << n;
    EXPECT_EQ(found.estimate, (n + 1) / 2.0);
  }
  EXPECT_EQ(ranks_of(25, 0.99).low, 6);
  EXPECT_NEAR(ranks_of(100'000, 0.95).low, 50'000 - 1.96 * std::sqrt(100'000) / 2, 1);
}

TEST(MedianInterval, OfFewValuesIsTheirWholeRange) {
  EXPECT_EQ(ranks_of(1, 0.95).low, 1);
  EXPECT_EQ(ranks_of(1, 0.95).high, 1);
  EXPECT_EQ(ranks_of(5, 0.95).low, 1);
  EXPECT_EQ(ranks_of(5, 0.95).high, 5);
  EXPECT_THROW(median_interval({}), Error);
}

// An effect of nothing is found to be one in at most level of so many measurements.
TEST(MedianInterval, HoldsTheTrueMedianAsOftenAsItSays) {
  std::mt19937_64 random(1);
  for (const int n : {10, 16, 40}) {
    int held = 0;
    for (int i = 0; i < 2000; ++i) {
      std::vector<double> values(static_cast<size_t>(n));
      // Skewed, with a long tail, as ratios of disturbed samples are: the median is 1.
      for (double& value : values) {
        const double part = static_cast<double>(random() >> 11) * 0x1p-53;
        value = part < 0.5 ? 0.98 + 0.04 * part : 1 + std::pow(2 * part - 1, 4);
      }
      const Interval interval = median_interval(values);
      if (interval.low <= 1 && 1 <= interval.high) ++held;
    }
    EXPECT_GE(held, 1890) << n;  // 95 of 100, less the chance of this seed
  }
}

TEST(Verdict, FollowsTheInterval) {
  EXPECT_EQ(judge_speedup({1.02, 1.05, 1.08}), Verdict::fast);
  EXPECT_EQ(judge_speedup({0.90, 0.95, 0.98}), Verdict::slow);
  EXPECT_EQ(judge_speedup({0.997, 1.0, 1.004}), Verdict::same);
  EXPECT_EQ(judge_speedup({0.98, 1.01, 1.05}), Verdict::ambiguous);
  EXPECT_EQ(judge_speedup({1.001, 1.01, 1.05}), Verdict::ambiguous) << "may be below the tolerance";
  EXPECT_EQ(to_string(Verdict::ambiguous), "AMBG");
}

TEST(Winner, IsThePlanThatCanBeReliedOnMost) {
  using Plans = std::vector<PairedSpeedup>;
  EXPECT_EQ(find_winner(Plans{}), std::nullopt);
  EXPECT_EQ(find_winner(Plans{{{1.0, 1.1, 1.2}, 50}, {{0.9, 0.95, 0.99}, 50}}), std::nullopt);
  EXPECT_EQ(find_winner(Plans{{{1.5, 1.6, 1.7}, kFewestPairs - 1}}), std::nullopt);
  // The second has the better estimate, the first is the safer one.
  EXPECT_EQ(find_winner(Plans{{{1.08, 1.10, 1.12}, 50}, {{1.02, 1.15, 1.3}, 50}}), 0U);
}

TEST(GeometricMean, IsExactAndInItsInterval) {
  EXPECT_NEAR(bootstrap_geometric_mean(std::vector{2.0, 8.0}).estimate, 4.0, 1e-12);
  const std::vector<double> values{1.0, 1.1, 1.05, 1.2, 0.97, 1.3};
  const Interval mean = bootstrap_geometric_mean(values);
  EXPECT_LT(mean.low, mean.estimate);
  EXPECT_LT(mean.estimate, mean.high);
  EXPECT_GE(mean.low, 0.97);
  EXPECT_LE(mean.high, 1.3);
  const Interval again = bootstrap_geometric_mean(values);
  EXPECT_EQ(mean.low, again.low) << "deterministic";
  EXPECT_EQ(bootstrap_geometric_mean(std::vector{1.5}).low, 1.5);
  EXPECT_THROW(bootstrap_geometric_mean(std::vector{1.0, 0.0}), Error);
}

}  // namespace
}  // namespace preserve
