// SPDX-License-Identifier: Apache-2.0
// The stated error rates, by simulation with fixed seeds.
#include "apply/control/evidence.h"

#include <gtest/gtest.h>

#include <random>

namespace preserve::apply {
namespace {

TEST(ConfidenceSequence, IsInfiniteWhileThereAreTooFewSamples) {
  ConfidenceSequence sequence;
  EXPECT_FALSE(std::isfinite(sequence.evidence().high));
  sequence.add(0.01);
  EXPECT_FALSE(std::isfinite(sequence.evidence().high));
  for (int i = 0; i < 20; ++i) sequence.add(0.01 + 1e-4 * (i % 3));
  const Evidence evidence = sequence.evidence();
  EXPECT_EQ(evidence.pairs, 21U);
  EXPECT_LT(evidence.low, evidence.mean);
  EXPECT_GT(evidence.high, evidence.mean);
}

// Looked at after every sample, a 95 % t-interval would exclude the true mean in over 40 % of runs.
TEST(ConfidenceSequence, MissesTheTrueMeanInAtMostFivePercentOfRunsUnderConstantLooks) {
  constexpr int kRuns = 1000, kSamples = 300;
  std::mt19937_64 random(7);
  for (const double mean : {0.0, 0.02}) {
    std::normal_distribution<double> sample(mean, 0.01);
    int misses = 0;
    for (int run = 0; run < kRuns; ++run) {
      ConfidenceSequence sequence;
      for (int i = 0; i < kSamples; ++i) {
        sequence.add(sample(random));
        const Evidence evidence = sequence.evidence();
        if (evidence.low > mean || evidence.high < mean) {
          ++misses;
          break;
        }
      }
    }
    EXPECT_LE(misses, kRuns * 5 / 100);
  }
}

TEST(ConfidenceSequence, FindsAnEffectOfOneSpreadInAboutFourteenSamples) {
  std::mt19937_64 random(8);
  std::normal_distribution<double> sample(0.01, 0.01);
  int early = 0;
  constexpr int kRuns = 200;
  for (int run = 0; run < kRuns; ++run) {
    ConfidenceSequence sequence;
    for (int i = 0; i < 20; ++i) sequence.add(sample(random));
    early += sequence.evidence().low > 0;
  }
  EXPECT_GE(early, kRuns * 70 / 100);
}

}  // namespace
}  // namespace preserve::apply
