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
    std::vector<size_t> given_up;
    const auto touched = touched_allocations(touches_, mapped_, given_up);
    EXPECT_TRUE(given_up.empty());
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

// A pool, and pieces of it that live in it one after the other.
TEST_F(TouchesTest, BelongToTheInnermostAllocationOfTheTime) {
  mapped_.clear();
  mapped_.push_back({0x10'000'000, 64 * kMiB, 0, 9000, TensorId{1}, TensorRole::unknown, true});
  mapped_.push_back({0x10'100'000, kMiB, 100, 200, TensorId{2}, TensorRole::unknown, true});
  mapped_.push_back({0x10'100'000, 2 * kMiB, 200, 300, TensorId{3}, TensorRole::unknown, true});
  for (const int64_t ns : {50, 100, 199, 200, 299, 300, 9000}) {
    touches_.push_back({ns, 0x10'100'000, 0x1000, false});
  }
  touches_.insert(touches_.begin() + 4, {250, 0x10'100'000 + 2 * kMiB, 0x1000, false});
  std::vector<size_t> given_up;
  std::vector<int64_t> tensors;
  for (const auto* allocation : touched_allocations(touches_, mapped_, given_up)) {
    tensors.push_back(allocation == nullptr ? 0 : allocation->row.value);
  }
  EXPECT_EQ(tensors, (std::vector<int64_t>{1, 2, 2, 3, 1, 3, 1, 0}));
  EXPECT_TRUE(given_up.empty());
}

TEST_F(TouchesTest, BehindTooManyAllocationsAreGivenUpAndSaid) {
  mapped_.clear();
  mapped_.push_back({0x10'000'000, 64 * kMiB, 0, 9000, TensorId{1}, TensorRole::unknown, true});
  const auto piece = [](int i) { return 0x10'000'000 + 0x10000 * static_cast<uint64_t>(i); };
  for (int i = 1; i <= 64; ++i) {
    mapped_.push_back({piece(i), 0x1000, 0, 9000, TensorId{1 + i}, TensorRole::unknown, true});
  }
  touches_ = {{100, piece(63) + 0x2000, 0x1000, false},  // 63 begin closer
              {200, piece(64) + 0x2000, 0x1000, false},  // 64
              {300, piece(64) + 0x800, 0x800, false},
              {400, 0x1000, 0x1000, false}};
  std::vector<size_t> given_up;
  const auto touched = touched_allocations(touches_, mapped_, given_up);
  ASSERT_NE(touched[0], nullptr);
  EXPECT_EQ(touched[0]->row.value, 1);
  EXPECT_EQ(touched[1], nullptr);
  ASSERT_NE(touched[2], nullptr);
  EXPECT_EQ(touched[2]->row.value, 65);
  EXPECT_EQ(touched[3], nullptr);
  EXPECT_EQ(given_up, std::vector<size_t>{1}) << "where nothing lived, nothing is lost";
}

}  // namespace
}  // namespace preserve
