// SPDX-License-Identifier: Apache-2.0
// A rank's part of a matrix is that part of the whole, whatever the split.
#include "examples/tp_decoder/weights.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tp_decoder::test {
namespace {

std::vector<float> drawn(uint64_t seed, std::string_view name, Slice rows, Slice cols) {
  std::vector<float> values(static_cast<size_t>(rows.size() * cols.size()));
  draw(values.data(), seed, name, rows, cols, 0.5f, 2.0f);
  return values;
}

RC_GTEST_PROP(Draw, APartEqualsThatPartOfTheWhole, (uint64_t seed)) {
  constexpr int64_t kRows = 23, kCols = 37;
  const auto slice = [](int64_t size) {
    const int64_t begin = *rc::gen::inRange<int64_t>(0, size);
    return Slice{begin, *rc::gen::inRange<int64_t>(begin, size + 1)};
  };
  const Slice rows = slice(kRows), cols = slice(kCols);
  const auto whole = drawn(seed, "w", {0, kRows}, {0, kCols});
  const auto part = drawn(seed, "w", rows, cols);
  size_t next = 0;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    for (int64_t col = cols.begin; col < cols.end; ++col) {
      RC_ASSERT(part[next++] == whole[static_cast<size_t>(row * kCols + col)]);
    }
  }
}

TEST(Draw, ValuesSpreadEvenlyAroundTheMean) {
  const auto values = drawn(3, "w", {0, 200}, {0, 500});
  double sum = 0, squares = 0;
  for (const float value : values) {
    ASSERT_GE(value, 1.5f);
    ASSERT_LE(value, 2.5f);
    sum += value - 2;
    squares += (value - 2) * (value - 2);
  }
  const auto count = static_cast<double>(values.size());
  EXPECT_NEAR(sum / count, 0, 0.005);  // five standard errors
  EXPECT_NEAR(squares / count, 0.5 * 0.5 / 3, 0.002);
}

TEST(Draw, SeedAndNameBothMatter) {
  const Slice all{0, 8};
  EXPECT_EQ(drawn(1, "a", all, all), drawn(1, "a", all, all));
  EXPECT_NE(drawn(1, "a", all, all), drawn(2, "a", all, all));
  EXPECT_NE(drawn(1, "a", all, all), drawn(1, "b", all, all));
}

}  // namespace
}  // namespace tp_decoder::test
