// SPDX-License-Identifier: Apache-2.0
// Touches of memory as accesses of what ran in the meantime.
#include "profiler/convert/touches.h"

#include <gtest/gtest.h>

namespace preserve {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class TouchesTest : public testing::Test {
 protected:
  TouchesTest() {
    mapped_.push_back({0x10'000'000, 4 * kMiB, 0, 1000, TensorId{1}, TensorRole::weight, true});
    mapped_.push_back({0x20'000'010, kMiB, 0, 1000, TensorId{2}, TensorRole::unknown, true});
    // At the same place later, and memory with a name of its own.
    mapped_.push_back({0x10'000'000, 4 * kMiB, 1000, 9000, TensorId{3}, TensorRole::unknown, true});
    mapped_.push_back({0x30'000'000, kMiB, 0, 9000, TensorId{4}, TensorRole::weight, false});
  }
  std::vector<Touches::Access> between(int64_t start_ns, int64_t end_ns) const {
    const auto touched = touched_allocations(touches_, mapped_);
    return Touches(touches_, touched).between(start_ns, end_ns);
  }
  std::vector<Tensors::Mapped> mapped_;
  std::vector<Touch> touches_;
};

TEST_F(TouchesTest, OfWholeAllocationsSayLittleAboutHowMuchWasRead) {
  touches_ = {{100, 0x10'000'000, 4 * kMiB, false}, {150, 0x20'001'000, kMiB - 0x1000, true}};
  const auto accesses = between(100, 200);
  ASSERT_EQ(accesses.size(), 2U);
  EXPECT_EQ(accesses[0].tensor.value, 1);
  EXPECT_EQ(accesses[0].mode, AccessMode::read);
  EXPECT_EQ(accesses[0].bytes, 4 * kMiB);
  EXPECT_EQ(accesses[0].confidence, kWholeConfidence);
  EXPECT_EQ(accesses[1].mode, AccessMode::write);
  EXPECT_EQ(accesses[1].offset_bytes, 0U);
  EXPECT_EQ(accesses[1].bytes, kMiB);
}

TEST_F(TouchesTest, OfPiecesSayWhere) {
  constexpr uint64_t kPiece = 256 << 10;
  touches_ = {{100, 0x10'000'000 + 2 * kPiece, kPiece, false},
              {110, 0x10'000'000 + kPiece, kPiece, false},
              {120, 0x10'000'000 + 5 * kPiece, kPiece, false}};
  const auto accesses = between(0, 1000);
  ASSERT_EQ(accesses.size(), 1U);
  EXPECT_EQ(accesses[0].offset_bytes, kPiece);
  EXPECT_EQ(accesses[0].bytes, 3 * kPiece);
  EXPECT_EQ(accesses[0].confidence, kPiecesConfidence);
}

TEST_F(TouchesTest, CountWhereTheyBelong) {
  touches_ = {{99, 0x10'000'000, 4 * kMiB, false},
              {200, 0x10'000'000, 4 * kMiB, false},
              {250, 0x30'000'000, kMiB, false},
              {260, 0x40'000'000, kMiB, false},
              {1000, 0x10'000'000, 4 * kMiB, false}};
  EXPECT_TRUE(between(100, 200).empty()) << "the end is not part of it";
  EXPECT_EQ(between(200, 300).size(), 1U) << "named and unknown memory is left out";
  ASSERT_EQ(between(900, 1100).size(), 1U);
  EXPECT_EQ(between(900, 1100)[0].tensor.value, 3) << "who lived there then";
}

}  // namespace
}  // namespace preserve
