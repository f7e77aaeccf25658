// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <pthread.h>
#include <sched.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "common/clock.h"
#include "common/error.h"
#include "replay/cpu/core_use.h"
#include "replay/cpu/fetch_method.h"
#include "replay/cpu/fetch_window.h"
#include "replay/cpu/host_cores.h"
#include "replay/cpu/tensor_memory.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

TEST(FetchMethod, EveryMethodStaysInsideItsBytes) {
  // The last page of a mapping: one line too many would fault.
  const TensorMemory memory(3 * 4096);
  for (const FetchMethod& method : kFetchMethods) {
    for (const int64_t bytes : {1, 63, 64, 65, 1000, 1024, 1025, 4096, 3 * 4096}) {
      method.fetch(memory.data() + memory.bytes() - bytes, bytes);
    }
    method.fetch(memory.data(), 0);
  }
}

TEST(CoreUse, ACoreIsLostWhenItWasAwayForMoreThanAFiftieth) {
  const CoreUse before{5, 1'000, 2'000};
  const auto after = [](int64_t switches, int64_t cpu_ns) {
    return CoreUse{5 + switches, 1'000 + cpu_ns, 2'000 + 10'000};
  };
  EXPECT_TRUE(lost_core(before, after(1, 9'700)));
  EXPECT_FALSE(lost_core(before, after(3, 9'900))) << "short interruptions are everywhere";
  EXPECT_FALSE(lost_core(before, after(0, 4'000))) << "it has waited of its own will";
}

TEST(CoreUse, WorkOnACoreCountsAsSuch) {
  const CoreUse before = core_use();
  while (core_use().cpu_ns - before.cpu_ns < 1'000'000) {
  }
  const CoreUse after = core_use();
  EXPECT_GT(after.wall_ns, before.wall_ns) << "on a virtual machine the two clocks drift apart";
  EXPECT_GE(after.switches, before.switches);
}

TEST(FetchMethod, AnUnknownNameIsRefusedWithTheKnownOnes) {
  EXPECT_THAT(
      [] { find_fetch_method("telepathy"); },
      test::fails_with(ErrorKind::input, testing::AllOf(testing::HasSubstr("telepathy"),
                                                        testing::HasSubstr("prefetcht0_paced"))));
}

TEST(TensorMemory, ContentRepeats) {
  const TensorMemory memory(3 * kPatternBytes + 100);
  for (int64_t i = 0; i + kPatternBytes < memory.bytes(); i += 37) {
    ASSERT_EQ(memory.data()[i], memory.data()[i + kPatternBytes]);
  }
}

// Of the mapping that holds `address`: its huge pages.
int64_t huge_bytes_at(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  std::string line;
  bool inside = false;
  while (std::getline(maps, line)) {
    uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      const auto at = reinterpret_cast<uintptr_t>(address);
      inside = begin <= at && at < end;
    }
    int64_t kib = 0;
    if (inside && std::sscanf(line.c_str(), "AnonHugePages: %ld kB", &kib) == 1) return kib << 10;
  }
  return -1;
}

TEST(TensorMemory, LiesOnThePagesThatTheProgramHad) {
  constexpr int64_t kBytes = 16 << 20;
  const TensorMemory base(kBytes, pages_of("base"));
  const int64_t none = huge_bytes_at(base.data());
  if (none < 0 || !gives_huge_pages()) GTEST_SKIP() << "no huge pages here";
  EXPECT_EQ(none, 0);
  const TensorMemory huge(kBytes, pages_of("huge"));
  // The kernel gives none where memory is in pieces, so their number proves nothing: the mapping's
  // wish does.
  std::ifstream maps("/proc/self/smaps");
  const std::string all((std::istreambuf_iterator<char>(maps)), {});
  EXPECT_THAT(all, testing::ContainsRegex("VmFlags:.* hg")) << huge_bytes_at(huge.data());
  EXPECT_EQ(pages_of("of another kind"), Pages::ordinary);
}

TEST(Consumer, WeightsAndStreamSumTheSame) {
  const TensorMemory memory(5 * kPatternBytes);
  Consumer consumer;
  for (const int64_t bytes : {0, 4, 100, 4096, 4100, 70'000, 300'000}) {
    EXPECT_EQ(consumer.read_weights(memory.data() + 8, bytes),
              Consumer::read_stream(memory.data() + 8, bytes));
  }
}

TEST(Consumer, TheSumDependsOnEveryWord) {
  const TensorMemory memory(kPatternBytes);
  const uint64_t before = Consumer::read_stream(memory.data(), 4096);
  reinterpret_cast<float*>(memory.data())[1023] += 1;
  EXPECT_EQ(Consumer::read_stream(memory.data(), 4096), before + 1);
}

TEST(Consumer, PiecesOfACachedBlockSumLikeTheTensor) {
  const TensorMemory tensor(4 * kPatternBytes);
  const TensorMemory block(kPatternBytes);
  Consumer consumer;
  const int64_t begin = kPatternBytes / 2 + 12;
  const int64_t bytes = 2 * kPatternBytes;
  uint64_t pieces = 0;
  for (int64_t at = begin; at < begin + bytes;) {
    const int64_t in_block = at % block.bytes();
    const int64_t piece = std::min(begin + bytes - at, block.bytes() - in_block);
    pieces += consumer.read_weights(block.data() + in_block, piece);
    at += piece;
  }
  EXPECT_EQ(pieces, consumer.read_weights(tensor.data() + begin, bytes));
}

TEST(Consumer, WritingLeavesTheContent) {
  const TensorMemory memory(kPatternBytes);
  const uint64_t before = Consumer::read_stream(memory.data(), kPatternBytes);
  Consumer::write(memory.data() + 64, 5000);
  EXPECT_EQ(Consumer::read_stream(memory.data(), kPatternBytes), before);
}

class WindowFetcherTest : public testing::TestWithParam<bool> {
 protected:
  std::optional<int> spare() const {
    if (!GetParam()) return std::nullopt;
    return find_host_cores().cores.back();
  }
};

TEST_P(WindowFetcherTest, AllSlicesAreFetchedWhenThereIsTime) {
  const TensorMemory memory(1 << 20);
  const std::vector<FetchSlice> slices{
      {memory.data(), 10'000}, {memory.data() + 500'000, 1}, {memory.data() + 600'000, 4096}};
  WindowFetcher fetcher(find_fetch_method("load"), 4096, spare());
  for (int round = 0; round < 3; ++round) {
    fetcher.begin(slices);
    fetcher.wait();
    EXPECT_EQ(fetcher.end(), 14'097);
  }
}

TEST_P(WindowFetcherTest, AnEmptyWindowFetchesNothing) {
  WindowFetcher fetcher(find_fetch_method("load"), 4096, spare());
  fetcher.begin({});
  EXPECT_EQ(fetcher.end(), 0);
}

TEST_P(WindowFetcherTest, WhatDoesNotFitIsDropped) {
  const TensorMemory memory(64 << 20);
  const std::vector<FetchSlice> slices{{memory.data(), memory.bytes()}};
  WindowFetcher fetcher(find_fetch_method("load"), 4096, spare());
  const int64_t fetched =
      run_idle_window(fetcher, slices, monotonic_ns());  // over before it begins
  EXPECT_LT(fetched, memory.bytes());
}

INSTANTIATE_TEST_SUITE_P(OwnAndSpareCore, WindowFetcherTest, testing::Bool(),
                         [](const auto& place) { return place.param ? "spare" : "consumer"; });

TEST(WindowFetcher, ASpareCoreThatDoesNotExistIsAnError) {
  EXPECT_THROW(WindowFetcher(find_fetch_method("load"), 4096, CPU_SETSIZE - 1), Error);
}

TEST(FetchCursor, GoesThroughAllSlicesInPieces) {
  const TensorMemory memory(kPatternBytes);
  const std::vector<FetchSlice> slices{{memory.data(), 100}, {nullptr, 0}, {memory.data(), 64}};
  FetchCursor cursor(slices);
  std::vector<int64_t> fetched;
  while (cursor.step(find_fetch_method("load"), 64)) fetched.push_back(cursor.fetched_bytes());
  EXPECT_THAT(fetched, testing::ElementsAre(64, 100, 164));
  EXPECT_FALSE(FetchCursor().step(find_fetch_method("load"), 64));
}

// A progress engine that is turned by hand, and a call that waits for `turns` of them.
ProgressEngine::Turn registered = nullptr;

struct WaitingCall final : RankCollective {
  int turns = 0;
  void run() override {
    for (int i = 0; i < turns && registered != nullptr; ++i) registered();
  }
  void start() override { ADD_FAILURE() << "the call was to stay as it is"; }
  bool test() override { return true; }
};

class ProgressWindow : public testing::Test {
 protected:
  const ProgressEngine engine_{[](ProgressEngine::Turn turn) {
                                 registered = turn;
                                 return 0;
                               },
                               [](ProgressEngine::Turn) {
                                 registered = nullptr;
                                 return 0;
                               }};
  const TensorMemory memory_{10 * 4096};
  const std::vector<FetchSlice> slices_{{memory_.data(), memory_.bytes()}};
  WindowFetcher fetcher_{find_fetch_method("load"), 4096, std::nullopt};
  WaitingCall call_;

  int64_t window() { return run_window(call_, fetcher_, slices_, 0, WindowVia::progress); }
};

TEST_F(ProgressWindow, EachTurnOfTheBlockingCallFetchesOneChunk) {
  const ProgressTurns turns(engine_);
  call_.turns = 3;
  EXPECT_EQ(window(), 3 * 4096);
  call_.turns = 100;
  EXPECT_EQ(window(), 10 * 4096);
}

TEST_F(ProgressWindow, NothingIsFetchedBetweenWindows) {
  const ProgressTurns turns(engine_);
  call_.turns = 1;
  EXPECT_EQ(window(), 4096);
  registered();
  EXPECT_EQ(fetcher_.end(), 4096);
}

TEST_F(ProgressWindow, TheEngineIsLeftAsItWasFound) {
  {
    const ProgressTurns turns(engine_);
    EXPECT_NE(registered, nullptr);
  }
  EXPECT_EQ(registered, nullptr);
}

TEST_F(ProgressWindow, AnEngineThatTakesNoFunctionIsAnError) {
  EXPECT_THROW(ProgressTurns({[](ProgressEngine::Turn) { return -1; }, engine_.remove}), Error);
}

// The creator has one core and a real-time policy, as a rank may have: a helper that inherited both
// would never run while the creator spins for it.
TEST(WindowFetcher, TheHelperOfARealTimeRankRuns) {
  const HostCores host = find_host_cores();
  const TensorMemory memory(1 << 20);
  const std::vector<FetchSlice> slices{{memory.data(), memory.bytes()}};
  bool allowed = false;
  int64_t fetched = 0;
  std::thread rank([&] {
    pin_this_thread(host.cores.front());
    const sched_param lowest{sched_get_priority_min(SCHED_FIFO)};
    allowed = pthread_setschedparam(pthread_self(), SCHED_FIFO, &lowest) == 0;
    if (!allowed) return;
    WindowFetcher fetcher(find_fetch_method("load"), 4096, host.cores.back());
    fetcher.begin(slices);
    fetcher.wait();
    fetched = fetcher.end();
  });
  rank.join();
  if (!allowed) GTEST_SKIP() << "this user may not use SCHED_FIFO";
  EXPECT_EQ(fetched, memory.bytes());
}

TEST(HostCores, KnowsThisMachine) {
  const HostCores host = find_host_cores();
  EXPECT_FALSE(host.cores.empty());
  EXPECT_FALSE(host.cpu_name.empty());
  EXPECT_GE(host.cores_in_affinity, static_cast<int64_t>(host.cores.size()));
  EXPECT_GT(available_memory_bytes(), 0);
  EXPECT_FALSE(page_policy().empty());
}

}  // namespace
}  // namespace preserve
