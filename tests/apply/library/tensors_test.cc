// SPDX-License-Identifier: Apache-2.0
#include "apply/library/tensors.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/apply/library/scripted_mpi.h"

namespace preserve::apply {
namespace {

TensorState state_of(ScriptedRank& rank, size_t tensor) {
  TensorOutcome outcomes[2] = {};
  rank.tensors.report(outcomes);
  return outcomes[tensor].state;
}

TEST(Tensors, AreUsedOnlyOnceTheirPagesWereChecked) {
  LoadedRank rank;
  EXPECT_TRUE(rank.tensors.has_news());
  EXPECT_EQ(rank.tensors.at(0, 0, 64).bytes, 0U);
  rank.tensors.check();
  EXPECT_FALSE(rank.tensors.has_news());
  EXPECT_EQ(rank.tensors.at(0, 0, 64).bytes, 64U);
  EXPECT_EQ(rank.tensors.at(1, 4000, 4096).bytes, 96U);
  EXPECT_EQ(rank.tensors.at(1, 4096, 1).bytes, 0U);
  EXPECT_EQ(rank.tensors.at(1, UINT64_MAX, 1).bytes, 0U);
}

TEST(Tensors, AreFoundByARegisteredStringToo) {
  ScriptedRank rank;
  rank.tensors.define_string(40, "b");
  rank.tensors.define_string(41, "other");
  rank.tensors.add_region(9, 7, rank.pages().base(), 100);
  rank.tensors.name_region(0, rank.pages().base(), 40, {});
  rank.tensors.add_region(10, 7, rank.pages().base() + 4096, 100);
  rank.tensors.name_region(10, 0, 41, {});
  EXPECT_EQ(state_of(rank, 0), TensorState::missing);
  EXPECT_EQ(state_of(rank, 1), TensorState::found);
}

TEST(Tensors, GrowAndShrinkWithTheirRegion) {
  LoadedRank rank;
  rank.tensors.check();
  rank.tensors.resize_region(rank.pages().base() + 4096, 100);
  EXPECT_EQ(rank.tensors.at(1, 0, 4096).bytes, 100U);
  rank.tensors.resize_region(rank.pages().base() + 4096, 200);
  EXPECT_EQ(rank.tensors.at(1, 0, 4096).bytes, 200U);
  rank.tensors.resize_region(12345, 200);  // unknown
  // Never beyond what is mapped.
  rank.tensors.resize_region(rank.pages().base() + 4096, 1ULL << 40);
  rank.tensors.check();
  EXPECT_LT(rank.tensors.at(1, 0, 1ULL << 40).bytes, 1ULL << 40);
}

TEST(Tensors, AreNotUsedWhereTheirPagesCannotBeRead) {
  LoadedRank rank;
  ASSERT_EQ(::mprotect(rank.pages().memory(), 4096, PROT_NONE), 0);
  rank.tensors.check();
  EXPECT_TRUE(rank.tensors.any_mapped());
  EXPECT_EQ(state_of(rank, 0), TensorState::unreadable);
  EXPECT_EQ(rank.tensors.at(0, 0, 64).bytes, 0U);
  EXPECT_EQ(rank.tensors.at(1, 0, 64).bytes, 64U);
}

TEST(Tensors, MayLieInSeveralMappingsInARow) {
  ScriptedRank rank;
  rank.tensors.add_region(1, 7, rank.pages().base(), 8192);
  rank.tensors.name_region(1, 0, 0, "a");
  ASSERT_EQ(::mprotect(rank.pages().memory(), 4096, PROT_READ), 0);  // splits it
  rank.tensors.check();
  EXPECT_EQ(rank.tensors.at(0, 0, 8192).bytes, 8192U);
}

TEST(Tensors, GoWithTheirRegionAndTheirHeap) {
  LoadedRank rank;
  rank.tensors.check();
  rank.tensors.remove_region(0, rank.pages().base());
  EXPECT_EQ(state_of(rank, 0), TensorState::gone);
  EXPECT_EQ(state_of(rank, 1), TensorState::found);
  rank.tensors.remove_heap(7);
  EXPECT_EQ(state_of(rank, 1), TensorState::gone);
  EXPECT_EQ(rank.tensors.at(1, 0, 64).bytes, 0U);
}

TEST(Tensors, GoWithTheirMemory) {
  LoadedRank rank;
  rank.tensors.check();
  rank.tensors.release(rank.pages().base() - 4096, 4096);  // ends before
  rank.tensors.release(rank.pages().base() + 8192, 4096);  // begins behind
  EXPECT_EQ(rank.tensors.at(0, 0, 64).bytes, 64U);
  rank.tensors.release(rank.pages().base() + 8191, 1);
  EXPECT_EQ(state_of(rank, 0), TensorState::found);
  EXPECT_EQ(state_of(rank, 1), TensorState::gone);
  rank.tensors.release(0, UINT64_MAX);
  EXPECT_EQ(state_of(rank, 0), TensorState::gone);
}

TEST(Tensors, OfManyUnnamedRegionsTheNewestAreKept) {
  ScriptedRank rank;
  for (uint64_t id = 100; id < 100'000; ++id) rank.tensors.add_region(id, 7, id * 4096, 64);
  rank.tensors.name_region(100, 0, 0, "a");  // long gone
  EXPECT_EQ(state_of(rank, 0), TensorState::missing);
  rank.tensors.name_region(99'999, 0, 0, "a");
  EXPECT_EQ(state_of(rank, 0), TensorState::found);
}

// What the program does when it gives memory up while a fetch reads it.
TEST(Tensors, AreNotReadAnyMoreWhenReleaseReturns) {
  ScriptedRank rank;
  std::atomic<bool> quit{false};
  std::atomic<uint64_t> reads{0};
  rank.load();
  rank.tensors.check();
  std::thread reader([&] {
    while (!quit.load()) {
      const Tensors::Reading reading(rank.tensors);
      const Tensors::Place place = rank.tensors.at(0, 0, 4096);
      if (place.bytes == 0) continue;
      fetch_lines::by_load(place.begin, static_cast<int64_t>(place.bytes));
      reads.fetch_add(1);
    }
  });
  for (int i = 0; i < 300; ++i) {
    rank.tensors.release(rank.pages().base(), 4096);
    ASSERT_EQ(::mprotect(rank.pages().memory(), 4096, PROT_NONE), 0);
    ASSERT_EQ(::mprotect(rank.pages().memory(), 4096, PROT_READ | PROT_WRITE), 0);
    rank.load();
    rank.tensors.check();
  }
  quit.store(true);
  reader.join();
  EXPECT_EQ(rank.tensors.at(1, 0, 64).bytes, 64U);
}

}  // namespace
}  // namespace preserve::apply
