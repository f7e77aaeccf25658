// SPDX-License-Identifier: Apache-2.0
#include "common/stats.h"

#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <numeric>

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

TEST(Bootstrap, SameSeedSameIntervalAndItHoldsTheMedian) {
  std::vector<double> values(51);
  std::iota(values.begin(), values.end(), 100.0);
  const Interval a = bootstrap_median(values), b = bootstrap_median(values);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_LE(a.low, a.estimate);
  EXPECT_LE(a.estimate, a.high);
  EXPECT_DOUBLE_EQ(a.estimate, 125);
  // Order statistics give about [118, 132] for the 95 % interval of the median of 51 values.
  EXPECT_NEAR(a.low, 118, 3);
  EXPECT_NEAR(a.high, 132, 3);
}

TEST(Bootstrap, OneValueHasNoWidth) {
  const std::vector<double> one{3};
  EXPECT_DOUBLE_EQ(bootstrap_median(one).low, 3);
  EXPECT_DOUBLE_EQ(bootstrap_median(one).high, 3);
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
