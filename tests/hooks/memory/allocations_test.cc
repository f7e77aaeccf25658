// SPDX-License-Identifier: Apache-2.0
#include "hooks/memory/allocations.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace preserve::hooks {
namespace {

class AllocationsTest : public testing::Test {
 protected:
  std::string add(uint64_t begin, uint64_t bytes) {
    const Allocation* added = allocations_->add(begin, bytes, 3);
    AllocationName room;
    return added == nullptr ? "none" : std::string(Allocations::name(*added, room));
  }
  std::vector<uint64_t> remove(uint64_t begin, uint64_t bytes) {
    std::vector<uint64_t> gone;
    allocations_->remove(begin, bytes, [&](const Allocation& a) { gone.push_back(a.begin); });
    return gone;
  }
  std::unique_ptr<Allocations> allocations_ = std::make_unique<Allocations>();
};

TEST_F(AllocationsTest, AreNumberedAmongThoseOfTheirSize) {
  EXPECT_EQ(add(0x1000, 4096), "allocation.4096.0");
  EXPECT_EQ(add(0x3000, 4096), "allocation.4096.1");
  EXPECT_EQ(add(0x9000, 8192), "allocation.8192.0");
}

TEST_F(AllocationsTest, GiveTheLowestNumberOnOnceItIsFree) {
  for (const uint64_t begin : {0x1000, 0x3000, 0x5000}) add(begin, 4096);
  EXPECT_EQ(remove(0x3000, 4096), std::vector<uint64_t>{0x3000});
  EXPECT_EQ(add(0x7000, 4096), "allocation.4096.1");
  EXPECT_EQ(add(0x9000, 4096), "allocation.4096.3");
}

TEST_F(AllocationsTest, GoWhenAnyPartOfThemGoes) {
  add(0x1000, 4096);
  add(0x2000, 4096);
  EXPECT_TRUE(remove(0x800, 0x800).empty());
  EXPECT_EQ(remove(0x1fff, 1), std::vector<uint64_t>{0x1000});
  EXPECT_EQ(remove(0x1000, UINT64_MAX - 0x1000), std::vector<uint64_t>{0x2000});
}

TEST_F(AllocationsTest, BeyondTheMostAreNotFollowed) {
  for (uint64_t i = 0; i < Allocations::kMost; ++i) {
    EXPECT_EQ(add(0x100000 * (i + 1), 4096), "allocation.4096." + std::to_string(i));
  }
  EXPECT_EQ(add(0x10, 16), "none");
  remove(0x100000, 1);
  EXPECT_EQ(add(0x10, 4096), "allocation.4096.0");
}

}  // namespace
}  // namespace preserve::hooks
