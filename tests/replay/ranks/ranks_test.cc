// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "replay/ranks/collective_buffers.h"
#include "replay/ranks/group.h"

namespace preserve {
namespace {

using testing::ElementsAre;

TEST(LoneRank, HasOnlyItselfToTalkTo) {
  const LoneRank alone;
  EXPECT_EQ(alone.size(), 1);
  EXPECT_EQ(alone.rank(), 0);
  EXPECT_EQ(alone.size_on_host(), 1);
  EXPECT_EQ(alone.max(-7), -7);
  EXPECT_EQ(alone.min(9), 9);
  EXPECT_EQ(alone.sum(3), 3);
  EXPECT_EQ(alone.from_first(5), 5);
  EXPECT_THAT(alone.gather(std::vector<double>{1, 2}), ElementsAre(1, 2));
  EXPECT_THAT(alone.all_texts("me"), ElementsAre("me"));
  alone.barrier();
}

TEST(LoneRank, EveryCollectiveIsCompleteAtOnce) {
  const LoneRank alone;
  for (const char* function : {"allreduce", "allgather", "reduce_scatter", "alltoall", "broadcast",
                               "reduce", "gather", "scatter", "barrier"}) {
    const auto collective = alone.collective(function, 4096);
    collective->run();
    collective->start();
    EXPECT_TRUE(collective->test()) << function;
  }
}

TEST(LoneRank, ALookCostsSomething) {
  EXPECT_GT(LoneRank().test_cost_ns(1000), 0);
}

TEST(CollectiveBuffers, TheLongSideHoldsAllRanks) {
  const CollectiveBuffers reduced = collective_buffers("allreduce", 4096, 8);
  EXPECT_EQ(reduced.count, 1024);
  EXPECT_EQ(reduced.send.size(), 1024U);
  EXPECT_EQ(reduced.receive.size(), 1024U);
  const CollectiveBuffers gathered = collective_buffers("allgather", 4096, 8);
  EXPECT_EQ(gathered.count, 1024);
  EXPECT_EQ(gathered.receive.size(), 8 * 1024U);
  EXPECT_EQ(collective_buffers("barrier", 0, 8).count, 1);
}

TEST(CollectiveBuffers, WhatCannotBeRepeatedIsRefused) {
  EXPECT_FALSE(RankCollective::known("send"));
  EXPECT_THROW(collective_buffers("send", 8, 2), Error);
  EXPECT_THROW(collective_buffers("allreduce", int64_t{1} << 40, 2), Error);
}

}  // namespace
}  // namespace preserve
