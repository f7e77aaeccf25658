// SPDX-License-Identifier: Apache-2.0
// The stated error rate and how soon blame is found, by simulation with fixed seeds.
#include "apply/control/blame.h"

#include <gtest/gtest.h>

#include <random>

namespace preserve::apply {
namespace {

// Mishaps until the plan is blamed, of at most `most`.
int mishaps_until_blamed(std::mt19937_64& random, double share, double on_plan, int before,
                         int most) {
  Blame blame;
  std::uniform_real_distribution<double> uniform;
  for (int i = 0; i < before; ++i) blame.add(uniform(random) < share, share);
  for (int i = 1; i <= most; ++i) {
    blame.add(uniform(random) < on_plan, share);
    if (blame.is_shown()) return i;
  }
  return most + 1;
}

TEST(Blame, AccusesTheInnocentInAtMostOnePercentOfRuns) {
  constexpr int kRuns = 2000, kMishaps = 300;
  std::mt19937_64 random(11);
  for (const double share : {0.1, 0.25, 0.5, 0.9}) {
    int accused = 0;
    for (int run = 0; run < kRuns; ++run) {
      accused += mishaps_until_blamed(random, share, share, 0, kMishaps) <= kMishaps;
    }
    EXPECT_LE(accused, 34) << share;  // 20 and three times their spread
  }
}

TEST(Blame, NeverDecidesByOneMishap) {
  for (const double share : {0.0, 0.1, 0.5, 1.0}) {
    Blame blame;
    blame.add(true, share);
    EXPECT_FALSE(blame.is_shown()) << share;
  }
}

TEST(Blame, IsFoundAfterFewMishapsWhereChanceIsSmall) {
  std::mt19937_64 random(12);
  EXPECT_EQ(mishaps_until_blamed(random, 0.05, 1, 0, 100), 2);
  EXPECT_EQ(mishaps_until_blamed(random, 0.125, 1, 0, 100), 3);
  EXPECT_LE(mishaps_until_blamed(random, 0.5, 1, 0, 100), 9);
}

TEST(Blame, IsFoundAfterManyMishapsOfOthers) {
  std::mt19937_64 random(13);
  EXPECT_LE(mishaps_until_blamed(random, 0.125, 1, 100, 100), 8);
  EXPECT_LE(mishaps_until_blamed(random, 0.5, 1, 100, 100), 25);
}

}  // namespace
}  // namespace preserve::apply
