// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/align/alignment.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace preserve::align {
namespace {

Recorded kernel(Kind kind, double dur_ns = 10'000, std::optional<int64_t> elements = {}) {
  return {.ordinal = 0, .kind = kind, .dur_ns = dur_ns, .elements = elements};
}

Modelled part(int32_t ordinal, Kind kind, double dur_ns, int64_t elements, int32_t index = 0,
              int32_t parts = 1) {
  return {.ordinal = ordinal,
          .kind = kind,
          .dur_ns = dur_ns,
          .elements = elements,
          .part = index,
          .parts = parts};
}

// A layer: queries, keys and values, attention, output.
const std::vector<Modelled> kLayer{
    part(0, Kind::product, 8'000, 800, 0, 3), part(0, Kind::product, 2'000, 200, 1, 3),
    part(0, Kind::product, 2'000, 200, 2, 3), part(1, Kind::attention, 5'000, 0),
    part(2, Kind::product, 8'000, 800)};

std::vector<std::pair<size_t, size_t>> sizes(const Alignment& alignment) {
  std::vector<std::pair<size_t, size_t>> out;
  for (const Match& match : alignment.matches) {
    out.emplace_back(match.recorded_end - match.recorded, match.modelled_end - match.modelled);
  }
  return out;
}

using Sizes = std::vector<std::pair<size_t, size_t>>;

// One kernel for queries, keys and values, and that of the output.
const Recorded kQkv = kernel(Kind::product, 12'000), kOutput = kernel(Kind::product, 8'000);

TEST(Alignment, OneKernelRunsSeveralParts) {
  const Alignment fused = align({kQkv, kernel(Kind::attention), kOutput}, kLayer);
  EXPECT_EQ(sizes(fused), (Sizes{{1, 3}, {1, 1}, {1, 1}}));
  const Alignment half = align({kernel(Kind::product, 8'000), kernel(Kind::product, 4'000),
                                kernel(Kind::attention), kOutput},
                               kLayer);
  EXPECT_EQ(sizes(half), (Sizes{{1, 1}, {1, 2}, {1, 1}, {1, 1}}));
}

TEST(Alignment, SeveralKernelsRunOneOperator) {
  const Alignment split = align(
      {kQkv, kernel(Kind::attention, 9'000), kernel(Kind::attention, 1'000), kOutput}, kLayer);
  EXPECT_EQ(sizes(split), (Sizes{{1, 3}, {2, 1}, {1, 1}}));
}

TEST(Alignment, AttentionMayBeTwoProducts) {
  const Recorded half = kernel(Kind::product, 500);
  const Alignment eager = align({kQkv, half, half, kOutput}, kLayer);
  EXPECT_EQ(sizes(eager), (Sizes{{1, 3}, {2, 1}, {1, 1}}));
  EXPECT_FALSE(eager.matches[1].same_kind);
}

TEST(Alignment, ExtraKernelsStayOver) {
  const Alignment extra =
      align({kernel(Kind::unknown), kernel(Kind::product, 100), kQkv, kernel(Kind::norm),
             kernel(Kind::attention), kOutput, kernel(Kind::collective)},
            kLayer);
  EXPECT_EQ(sizes(extra), (Sizes{{1, 3}, {1, 1}, {1, 1}}));
  EXPECT_EQ(extra.matches.front().recorded, 2u) << "the one whose duration fits";
}

TEST(Alignment, AKernelWithoutARuleIsTakenWhereNothingElseIs) {
  const Alignment named =
      align({kQkv, kernel(Kind::attention), kernel(Kind::unknown, 8'000)}, kLayer);
  ASSERT_EQ(sizes(named), (Sizes{{1, 3}, {1, 1}, {1, 1}}));
  EXPECT_FALSE(named.matches.back().same_kind);
}

TEST(Alignment, AWrongShapeIsNoMatchHoweverWellItsDurationFits) {
  const Alignment alignment =
      align({kernel(Kind::product, 12'000, 1200), kernel(Kind::attention),
             kernel(Kind::product, 8'000, 4000), kernel(Kind::product, 1'000, 808)},
            kLayer);
  ASSERT_EQ(sizes(alignment), (Sizes{{1, 3}, {1, 1}, {1, 1}}));
  EXPECT_EQ(alignment.matches.back().recorded, 3u) << "808 are within 2 % of 800";
  EXPECT_EQ(alignment.matches.back().shapes_agree, true);
}

TEST(Alignment, TheScaleIsThatOfMostProducts) {
  std::vector<Recorded> recorded;
  std::vector<Modelled> modelled;
  for (int32_t layer = 0; layer < 20; ++layer) {
    recorded.push_back(kernel(Kind::product, 30'000));
    recorded.push_back(kernel(Kind::attention));
    modelled.push_back(part(2 * layer, Kind::product, 10'000, 100));
    modelled.push_back(part(2 * layer + 1, Kind::attention, 10'000, 0));
  }
  recorded.insert(recorded.begin(), kernel(Kind::product, 5'000'000));
  const Alignment alignment = align(recorded, modelled);
  EXPECT_NEAR(alignment.scale, 3, 0.01);
  EXPECT_EQ(alignment.matches.size(), 40u);
  EXPECT_EQ(alignment.matches.front().recorded, 1u) << "the long one is in no layer";
}

TEST(Alignment, EmptySequencesHaveNoMatch) {
  EXPECT_TRUE(align({}, kLayer).matches.empty());
  EXPECT_TRUE(align({kernel(Kind::product)}, {}).matches.empty());
}

TEST(Alignment, WhatIsTooLongToCompareIsRefused) {
  const std::vector<Recorded> recorded(1 << 20, kernel(Kind::product));
  const std::vector<Modelled> modelled(1 << 10, part(0, Kind::product, 1, 1));
  EXPECT_THAT([&] { align(recorded, modelled); }, test::fails_with("too long"));
}

}  // namespace
}  // namespace preserve::align
