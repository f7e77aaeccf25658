// SPDX-License-Identifier: Apache-2.0
#include "hooks/mpi/tables.h"

#include <gtest/gtest.h>

namespace preserve::hooks {
namespace {

RequestTable::Pending left_with(uint64_t mark) {
  RequestTable::Pending pending;
  pending.mark = mark;
  return pending;
}

TEST(RequestTable, GivesWhatWasStartedUnderAHandle) {
  static RequestTable table;
  int a = 0, b = 0;
  EXPECT_TRUE(table.add(&a, left_with(1)));
  EXPECT_TRUE(table.add(&b, left_with(2)));
  RequestTable::Pending pending;
  ASSERT_TRUE(table.take(&b, table.newest(), &pending));
  EXPECT_EQ(pending.mark, 2U);
  ASSERT_TRUE(table.take(&a, table.newest(), &pending));
  EXPECT_EQ(pending.mark, 1U);
  EXPECT_FALSE(table.take(&a, table.newest(), &pending));
  EXPECT_TRUE(table.empty());
}

TEST(RequestTable, AHandleInUseAgainHasLostItsOldMeaning) {
  static RequestTable table;
  int a = 0;
  EXPECT_TRUE(table.add(&a, left_with(1)));  // its end is never seen
  EXPECT_TRUE(table.add(&a, left_with(2)));
  RequestTable::Pending pending;
  ASSERT_TRUE(table.take(&a, table.newest(), &pending));
  EXPECT_EQ(pending.mark, 2U);
  EXPECT_FALSE(table.take(&a, table.newest(), &pending));
  EXPECT_TRUE(table.empty());
}

TEST(RequestTable, AWaitDoesNotTakeWhatWasStartedMeanwhile) {
  static RequestTable table;
  int a = 0;
  EXPECT_TRUE(table.add(&a, left_with(1)));
  const uint64_t wait_began = table.newest();
  EXPECT_TRUE(table.add(&a, left_with(2)));  // by another thread, right after the completion
  RequestTable::Pending pending;
  EXPECT_FALSE(table.take(&a, wait_began, &pending));
  EXPECT_TRUE(table.take(&a, table.newest(), &pending));
}

TEST(RequestTable, HandlesThatAreNeverCompletedDoNotFillIt) {
  static RequestTable table;
  int handles[8] = {};
  for (uint64_t i = 0; i < 100'000; ++i) ASSERT_TRUE(table.add(&handles[i % 8], left_with(i)));
  RequestTable::Pending pending;
  ASSERT_TRUE(table.take(&handles[0], table.newest(), &pending));
  EXPECT_EQ(pending.mark, 99'992U);
}

}  // namespace
}  // namespace preserve::hooks
