// SPDX-License-Identifier: Apache-2.0
#include "hooks/mpi/tables.h"

#include <gtest/gtest.h>

#include <optional>

namespace preserve::hooks {
namespace {

RequestTable::Pending left_with(uint64_t mark) {
  RequestTable::Pending pending;
  pending.mark = mark;
  return pending;
}

uint64_t id_of(CommunicatorTable& table, const void* handle, uint64_t members, uint64_t origin) {
  const CommunicatorTable::Entry* entry = table.add(handle, members, 2, origin);
  return entry == nullptr ? 0 : entry->id;
}

TEST(CommunicatorTable, ARankThatMadeMoreCommunicatorsOfItsOwnCountsTheSharedOnesAlike) {
  static CommunicatorTable first, second;
  int world[2], shared[2], own = 0;
  CommunicatorTable::Entry* parents[2] = {first.add(&world[0], 99, 2, 0),
                                          second.add(&world[1], 99, 2, 0)};
  ASSERT_EQ(parents[0]->id, parents[1]->id);
  // One call on the parent makes a communicator of its own for the first rank, none for the second.
  const uint64_t alone = CommunicatorTable::next_origin(*parents[0]);
  CommunicatorTable::next_origin(*parents[1]);
  const uint64_t own_id = id_of(first, &own, 1, alone);
  CommunicatorTable::next_origin(*first.find(&own));
  const uint64_t ids[2] = {
      id_of(first, &shared[0], 99, CommunicatorTable::next_origin(*parents[0])),
      id_of(second, &shared[1], 99, CommunicatorTable::next_origin(*parents[1]))};
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_NE(ids[0], parents[0]->id);
  EXPECT_NE(own_id, ids[0]);
}

TEST(CommunicatorTable, GroupsThatOneCallMakesAreToldApartByTheirMembers) {
  static CommunicatorTable table;
  int world = 0, a = 0, b = 0;
  const uint64_t origin = CommunicatorTable::next_origin(*table.add(&world, 99, 4, 0));
  EXPECT_NE(id_of(table, &a, 1, origin), id_of(table, &b, 2, origin));
}

TEST(CommunicatorTable, WhereRanksCannotAgreeThereIsNoNumber) {
  static CommunicatorTable table;
  int spawned = 0;
  EXPECT_EQ(id_of(table, &spawned, 0, 0), 0U);
}

// What was started under the handle by now: its mark.
std::optional<uint64_t> taken(RequestTable& table, int* handle) {
  RequestTable::Pending pending;
  if (!table.take(handle, table.newest(), &pending)) return std::nullopt;
  return pending.mark;
}

TEST(RequestTable, GivesWhatWasStartedUnderAHandle) {
  static RequestTable table;
  int a = 0, b = 0;
  EXPECT_TRUE(table.add(&a, left_with(1)));
  EXPECT_TRUE(table.add(&b, left_with(2)));
  EXPECT_EQ(taken(table, &b), 2U);
  EXPECT_EQ(taken(table, &a), 1U);
  EXPECT_EQ(taken(table, &a), std::nullopt);
  EXPECT_TRUE(table.empty());
}

TEST(RequestTable, AHandleInUseAgainHasLostItsOldMeaning) {
  static RequestTable table;
  int a = 0;
  EXPECT_TRUE(table.add(&a, left_with(1)));  // its end is never seen
  EXPECT_TRUE(table.add(&a, left_with(2)));
  EXPECT_EQ(taken(table, &a), 2U);
  EXPECT_EQ(taken(table, &a), std::nullopt);
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
  EXPECT_EQ(taken(table, &handles[0]), 99'992U);
}

}  // namespace
}  // namespace preserve::hooks
