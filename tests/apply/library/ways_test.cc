// SPDX-License-Identifier: Apache-2.0
// The ways of filling a window: which one a rank takes, and that all ranks do alike where they
// must.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "tests/apply/library/scripted_mpi.h"

namespace preserve::apply {
namespace {

using testing::HasSubstr;
using testing::Not;

size_t count(const std::string& ways, char way) {
  return static_cast<size_t>(std::count(ways.begin(), ways.end(), way));
}

// One of two ranks, of which the other does as it does.
struct Converting : ScriptedRank {
  explicit Converting(Via via = Via::convert, const Session::Probed& found = {true, true, 10, 5})
      : ScriptedRank(scripted_plan({.via = via})) {
    board.ready = 1;
    probed = found;
    load();
  }
};

TEST(Convert, ProbesOnceAllRanksAreReadyThenConvertsInItsArmsAlone) {
  Converting rank;
  rank.steps(2 + 4);
  // Two steps to lock, two whose windows are noted, the last one of which probes; each step has
  // two.
  EXPECT_EQ(rank.ways, "------nn-nn-p-----");
  EXPECT_EQ(scripted_attached, 0);
  rank.ways.clear();
  rank.steps(12);
  std::string expected;
  for (uint32_t step = 0; step < 12; ++step) {
    expected += place_of(step + 1, {}, Mode::guard, 32).arm == Arm::original ? "---" : "cc-";
  }
  EXPECT_EQ(rank.ways, expected);
  EXPECT_EQ(rank.seen().via, static_cast<uint8_t>(Via::convert));
  EXPECT_GT(rank.seen().fetched_bytes, 0U);
}

TEST(Convert, IsNullArmWithoutFetching) {
  ScriptedRank rank(scripted_plan({.via = Via::convert, .mode = Mode::dry_run}));
  rank.board.ready = 1;
  rank.probed = {true, true, 10, 5};
  rank.load();
  rank.steps(20);
  EXPECT_GT(count(rank.ways, 'c'), 0U);
  EXPECT_EQ(rank.seen().fetched_bytes, 0U);
}

TEST(Convert, RefusesWhatWouldChangeABit) {
  Converting rank(Via::convert, {false, true, 10, 5});
  rank.steps(20);
  EXPECT_THAT(rank.ways, Not(HasSubstr("c")));
  EXPECT_EQ(rank.seen().off, Off::other_bits);
}

TEST(Convert, WaitsForNoRankThatIsNotReady) {
  Converting rank;
  rank.board.ready = 0;
  rank.steps(20);
  EXPECT_THAT(rank.ways, Not(HasSubstr("p")));
  EXPECT_EQ(rank.seen().off, Off::not_convertible);
}

TEST(Convert, RefusesAStepOfOtherCalls) {
  PlanContent plan = scripted_plan({.via = Via::convert});
  plan.collectives[0].function = 2;
  ScriptedRank rank(plan);
  rank.steps(1);
  EXPECT_EQ(rank.seen().off, Off::not_convertible);
}

TEST(Measured, TakesTheWayOfShorterCollectives) {
  Converting shorter(Via::measured, {true, true, 10, 5});
  shorter.steps(20);
  EXPECT_THAT(shorter.ways, HasSubstr("c"));
  EXPECT_EQ(scripted_attached, 0);

  for (const Session::Probed& found : {Session::Probed{true, true, 5, 10}, {false, true, 10, 5}}) {
    Converting longer(Via::measured, found);
    longer.steps(20);
    EXPECT_THAT(longer.ways, Not(HasSubstr("c")));
    EXPECT_EQ(scripted_attached, 1);
    EXPECT_EQ(longer.seen().via, static_cast<uint8_t>(Via::progress));
    EXPECT_GT(longer.seen().fetched_bytes, 0U);
  }
}

TEST(Measured, ConvertsWhereARankHasNoProgressEngine) {
  Converting rank(Via::measured, {true, false, 5, 10});
  scripted_refusal = Off::no_progress;
  rank.steps(20);
  EXPECT_THAT(rank.ways, HasSubstr("c"));
  EXPECT_NE(rank.seen().state, State::off);

  Converting other_bits(Via::measured, {false, false, 5, 10});
  scripted_refusal = Off::no_progress;
  other_bits.steps(20);
  EXPECT_EQ(other_bits.seen().off, Off::no_progress);
}

TEST(Measured, UsesTheProgressEngineAtOnceWhenTheStepHasSeveralCommunicators) {
  Converting rank(Via::measured);
  for (int i = 0; i < 20; ++i) {
    rank.communicator = 7;
    rank.allreduce(100, 10);
    rank.communicator = 8;
    rank.allreduce(100, 10);
    rank.allreduce(8, 10);
  }
  EXPECT_THAT(rank.ways, Not(HasSubstr("p")));
  EXPECT_EQ(rank.board.ready, 1U);
  EXPECT_EQ(rank.seen().locks, 1U);
  EXPECT_GT(rank.seen().fetched_bytes, 0U);
}

// Whatever happens to one of them beside the communicator's own calls.
TEST(Convert, RanksConvertTheSameCallsWhateverElseTheyDo) {
  for (const double gain : {0.1, -0.1}) {
    Board board;
    const PlanContent plan = scripted_plan({.via = Via::convert});
    ScriptedRank first(plan, 2, &board), second(plan, 2, &board);
    int64_t now_ns[2] = {1, 1};
    for (ScriptedRank* rank : {&first, &second}) {
      rank->probed = {true, true, 10, 5};
      rank->load();
    }
    for (int i = 0; i < 400; ++i) {
      if (i == 30) {  // both lose the step, and find it again
        first.allreduce(4096, 1);
        second.allreduce(4096, 1);
      }
      step_of(first, now_ns[0], gain);
      if (i % 7 == 3) second.session().message();
      if (i % 5 == 2) {  // of another thread, on another communicator, of a size that the step has
        second.communicator = 9;
        second.allreduce(100, 3, 2);
        second.ways.pop_back();
        second.communicator = 7;
      }
      if (i == 40) second.tensors.release(second.pages().base(), 8192);
      step_of(second, now_ns[1], i % 11 == 0 ? -9 : 0);  // disturbed
      ASSERT_EQ(first.ways, second.ways) << i;
    }
    EXPECT_EQ(first.seen().state, gain > 0 ? State::on : State::off);
    EXPECT_EQ(second.seen().state, first.seen().state);
    EXPECT_EQ(second.seen().off_step, first.seen().off_step);
    EXPECT_EQ(first.seen().locks, 2U);
  }
}

TEST(Convert, EndsWithNoticeWhenACallFails) {
  Converting rank;
  rank.steps(20);
  const uint32_t failed_at = static_cast<uint32_t>(rank.seen().samples);
  rank.session().failed();
  rank.steps(4);
  EXPECT_EQ(rank.seen().state, State::measuring);
  rank.steps(20);
  EXPECT_EQ(rank.seen().off, Off::inserted_call);
  EXPECT_GE(rank.seen().off_step, failed_at + kNoticeSteps);
}

TEST(Spare, WaitsForNobody) {
  LoadedRank rank(scripted_plan({.via = Via::spare}));
  rank.steps(2 + 5);  // no thread is there
  EXPECT_EQ(scripted_attached, 1);
  EXPECT_EQ(rank.seen().fetched_bytes, 0U);
  EXPECT_EQ(rank.seen().dropped_bytes, 3 * 8192U);
}

TEST(Spare, FetchesOnAnotherCore) {
  // The thread goes on for a while.
  static const PlanContent content = scripted_plan({.via = Via::spare});
  static LoadedRank rank(content);
  rank.tensors.check();
  static const std::string file = content.encoded();
  static std::vector<uint64_t> words(file.size() / 8 + 1);
  static PlanView plan;
  std::memcpy(words.data(), file.data(), file.size());
  ASSERT_EQ(plan.open(std::as_bytes(std::span(words)).first(file.size())), nullptr);
  const auto clock = [] {
    return static_cast<int64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  };
  static Helper helper(plan, rank.tensors, rank.board, clock);
  rank.board.ranks = 1;
  const Off refused = helper.start();
  if (std::thread::hardware_concurrency() < 2) {
    EXPECT_EQ(refused, Off::no_idle_core);
    return;
  }
  ASSERT_EQ(refused, Off::none);
  uint64_t fetched = 0;
  for (int i = 0; i < 3000 && fetched < 4096; ++i) {
    helper.post(static_cast<uint32_t>(i % 2));
    std::this_thread::sleep_for(std::chrono::milliseconds(1 + i));
    fetched = helper.take_back();
    EXPECT_LE(fetched, 4096U);
  }
  EXPECT_EQ(fetched, 4096U);
  helper.stop();
  rank.board.ranks = 1 << 20;
  EXPECT_EQ(helper.start(), Off::no_idle_core);
}

}  // namespace
}  // namespace preserve::apply
