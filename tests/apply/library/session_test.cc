// SPDX-License-Identifier: Apache-2.0
// A rank under a plan, driven by a scripted MPI library through everything that may surprise it.
#include "apply/library/session.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/apply/library/scripted_mpi.h"

namespace preserve::apply {
namespace {

constexpr size_t kOriginal = 0, kNull = 1, kApplied = 2;

TEST(Session, FetchesNothingBeforeTheStepWasSeenTwice) {
  LoadedRank rank;
  rank.steps(2);
  EXPECT_EQ(rank.seen().locks, 1U);
  EXPECT_EQ(scripted_attached, 1);
  EXPECT_EQ(rank.seen().state, State::measuring);
  EXPECT_EQ(rank.seen().fetched_bytes, 0U);
  rank.steps(5);  // two of the original, two with the plan; the fifth ends when the next begins
  EXPECT_EQ(rank.seen().steps[kOriginal], 2U);
  EXPECT_EQ(rank.seen().steps[kApplied], 2U);
  EXPECT_EQ(rank.seen().fetched_bytes, 3 * 8192U);
  EXPECT_EQ(rank.seen().dropped_bytes, 0U);
}

TEST(Session, DropsWhatTheWaitWasTooShortFor) {
  LoadedRank rank;
  rank.steps(2);
  for (int i = 0; i < 4; ++i) rank.step(0, 3);
  // Of three turns two are left to the last rank to come, so one chunk of 1 KiB for each of four
  // windows.
  EXPECT_EQ(rank.seen().fetched_bytes, 4 * 1024U);
  EXPECT_EQ(rank.seen().dropped_bytes, 4 * 3072U);
}

TEST(Session, FetchesNothingInTheNullArm) {
  LoadedRank rank(scripted_plan({.mode = Mode::dry_run}));
  rank.steps(40);
  EXPECT_EQ(rank.seen().fetched_bytes, 0U);
  EXPECT_GT(rank.seen().steps[kNull], 10U);
  EXPECT_EQ(rank.seen().steps[kApplied], 0U);
  EXPECT_GT(rank.seen().turns, 0U);
  EXPECT_GT(rank.seen().null.pairs, 4U);
}

TEST(Session, OnlyCountsWhenTheOriginalWasAskedFor) {
  LoadedRank rank(scripted_plan({.mode = Mode::original}));
  rank.steps(20);
  EXPECT_EQ(scripted_attached, 0);
  EXPECT_EQ(rank.seen().steps[kOriginal], 17U);
  EXPECT_EQ(rank.seen().turns, 0U);
}

TEST(Session, TurnsAFastPlanOnAndASlowOneOff) {
  LoadedRank fast;
  fast.steps(200, 0.05);
  EXPECT_EQ(fast.seen().state, State::on);
  EXPECT_GT(fast.seen().applied.low, 0.03);
  EXPECT_EQ(scripted_attached, 1);

  LoadedRank slow;
  slow.steps(202, -0.05);
  EXPECT_EQ(slow.seen().state, State::off);
  EXPECT_EQ(slow.seen().off, Off::slow);
  EXPECT_LE(slow.seen().off_step, 200U);
  EXPECT_EQ(scripted_attached, 0);
  const uint64_t fetched = slow.seen().fetched_bytes;
  slow.steps(50, -0.05);
  EXPECT_EQ(slow.seen().fetched_bytes, fetched);
}

TEST(Session, KeepsTheTimeOfEveryStepWithItsArm) {
  LoadedRank rank;
  rank.steps(2 + 13);
  ASSERT_EQ(rank.seen().samples, 12U);
  for (uint32_t i = 0; i < 12; ++i) {
    const StepSample& sample = rank.samples()[i];
    EXPECT_EQ(sample.step, i);
    EXPECT_EQ(sample.arm, place_of(i, {}, Mode::guard, 32).arm);
    EXPECT_EQ(sample.counted, i >= 8 ? 1 : 0) << i;
    EXPECT_GE(sample.dur_ns, 1000000U);
  }
}

// --- surprises ---

struct Surprising {
  const char* name;
  std::vector<int64_t> calls;  // bytes, in place of a step
  Surprise surprise;
  int steps_to_lock;  // two whole repetitions, of which the last may be the second half of these
};
class Surprised : public testing::TestWithParam<Surprising> {};

TEST_P(Surprised, StopsFetchingAtOnceAndRelocks) {
  LoadedRank rank;
  rank.steps(2 + 7);
  for (const int64_t bytes : GetParam().calls) rank.allreduce(bytes, 10);
  EXPECT_EQ(rank.seen().surprises[static_cast<size_t>(GetParam().surprise)], 1U);
  EXPECT_EQ(rank.seen().state, State::searching);
  const uint64_t fetched = rank.seen().fetched_bytes;
  const uint64_t samples = rank.seen().samples;
  rank.steps(GetParam().steps_to_lock);
  EXPECT_EQ(rank.seen().fetched_bytes, fetched);
  EXPECT_EQ(rank.seen().locks, 2U);
  rank.steps(5);
  EXPECT_GT(rank.seen().fetched_bytes, fetched);
  for (uint64_t i = 4; i < samples; ++i) EXPECT_EQ(rank.samples()[i].counted, 0);  // half a pair
  // The numbers go on with a whole pair.
  EXPECT_EQ(rank.samples()[rank.seen().samples - 4].step % kPairSteps, 0U);
  EXPECT_EQ(scripted_attached, 1);
}

INSTANTIATE_TEST_SUITE_P(Calls, Surprised,
                         testing::Values(Surprising{"reordered", {100, 8, 100}, Surprise::bytes, 2},
                                         Surprising{"missing", {100, 8}, Surprise::bytes, 2},
                                         Surprising{
                                             "extra", {100, 100, 100, 8}, Surprise::bytes, 1},
                                         Surprising{"larger", {200, 200, 16}, Surprise::bytes, 2}),
                         [](const auto& chosen) { return chosen.param.name; });

TEST(Session, PassesStepsOfAnotherShapeThrough) {
  LoadedRank rank;
  for (int i = 0; i < 30; ++i) rank.allreduce(4096, 10);
  EXPECT_EQ(rank.seen().locks, 0U);
  EXPECT_EQ(rank.seen().turns, 0U);
  EXPECT_EQ(scripted_attached, 0);
  EXPECT_EQ(rank.seen().state, State::searching);
}

TEST(Session, TakesCollectivesOfAnotherThreadForASurprise) {
  LoadedRank rank;
  rank.steps(2);
  rank.allreduce(100, 10, 2);
  EXPECT_EQ(rank.seen().surprises[static_cast<size_t>(Surprise::other_thread)], 1U);
  // Alternating threads never lock.
  for (int i = 0; i < 60; ++i) rank.allreduce(i % 3 == 2 ? 8 : 100, 10, 3 + i % 2);
  EXPECT_EQ(rank.seen().locks, 1U);
  EXPECT_EQ(rank.seen().fetched_bytes, 0U);
}

TEST(Session, SurvivesCollectivesOfManyThreadsAtOnce) {
  LoadedRank rank;
  rank.steps(4);
  Session& session = rank.session();
  std::vector<std::thread> threads;
  for (uint32_t thread = 10; thread < 14; ++thread) {
    threads.emplace_back([&session, thread] {
      for (int i = 0; i < 3000; ++i) {
        session.began(ScriptedRank::allreduce(i % 3 == 2 ? 8 : 100), thread, true);
        Session::turn();
        session.ended(2);
        session.message();
        session.wait_began(nullptr);
        session.wait_ended();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  rank.steps(4);
  EXPECT_GT(rank.seen().surprises[static_cast<size_t>(Surprise::other_thread)], 0U);
}

TEST(Session, SaysSoWhenTheRankCountDiffers) {
  LoadedRank rank(scripted_plan(), 3);
  rank.steps(20);
  EXPECT_EQ(rank.seen().off, Off::rank_count);
  EXPECT_EQ(rank.seen().fetched_bytes, 0U);
}

TEST(Session, SaysSoWhenTheStepIsAmbiguous) {
  PlanContent plan = scripted_plan();
  plan.collectives.pop_back();
  ScriptedRank rank(plan);
  ASSERT_STREQ(rank.error(), nullptr);
  rank.load();
  rank.steps(20);
  EXPECT_EQ(rank.seen().off, Off::ambiguous_step);
}

TEST(Session, SaysSoWithoutAProgressEngine) {
  LoadedRank rank;
  scripted_refusal = Off::no_progress;
  rank.steps(20);
  EXPECT_EQ(rank.seen().off, Off::no_progress);
  EXPECT_EQ(rank.seen().state, State::off);
}

TEST(Session, SaysSoWhenNoTensorIsInMemory) {
  ScriptedRank rank;
  rank.steps(20);
  EXPECT_EQ(rank.seen().off, Off::nothing_mapped);
  EXPECT_EQ(rank.tensor_outcomes()[0].state, TensorState::missing);
}

TEST(Session, FetchesNoTensorThatIsUnmappedUnderWay) {
  LoadedRank rank;
  rank.steps(2 + 3);
  const uint64_t fetched = rank.seen().fetched_bytes;
  rank.tensors.release(rank.pages().base(), 4096);
  // A read of it would end the test.
  ASSERT_EQ(::mprotect(rank.pages().memory(), 4096, PROT_NONE), 0);
  rank.step();
  EXPECT_EQ(rank.seen().fetched_bytes, fetched + 4096);  // "b" alone
  rank.step();
  EXPECT_EQ(rank.tensor_outcomes()[0].state, TensorState::gone);
  EXPECT_EQ(rank.tensor_outcomes()[1].state, TensorState::found);
}

TEST(Session, FetchesAgainWhatIsRegisteredAgain) {
  LoadedRank rank;
  rank.steps(2 + 2);
  rank.tensors.remove_region(1, 0);
  rank.steps(1);
  EXPECT_EQ(rank.tensor_outcomes()[0].state, TensorState::gone);
  rank.load();
  rank.steps(1);
  EXPECT_EQ(rank.tensor_outcomes()[0].state, TensorState::found);
  EXPECT_EQ(rank.seen().fetched_bytes, 4096 + 8192U);
}

TEST(Session, DetachesBeforeTheProgramEndsMpi) {
  LoadedRank rank;
  rank.steps(5);
  EXPECT_EQ(scripted_attached, 1);
  rank.session().ending();
  EXPECT_EQ(scripted_attached, 0);
  EXPECT_EQ(rank.seen().ended, 1);
  rank.steps(5);  // after MPI_Abort of another thread, say
  EXPECT_EQ(scripted_attached, 0);
}

TEST(Session, DoesNothingInAChild) {
  LoadedRank rank;
  rank.steps(2 + 2);
  rank.session().began(ScriptedRank::allreduce(100), 1, true);
  Session::forget_window();
  Session::turn();
  EXPECT_EQ(rank.seen().turns, 0U);
}

// --- several ranks ---

TEST(Session, AllRanksOfAHostFollowTheFirstOne) {
  LoadedRank first, second;
  int64_t first_ns = 1, second_ns = 1;
  second.board.lead(99);
  for (int i = 0; i < 150; ++i) {
    step_of(first, first_ns, 0.05);
    if (const std::optional<Decision> made = first.board.read()) second.board.publish(*made);
    step_of(second, second_ns, -0.05);  // its own times say the opposite
  }
  EXPECT_EQ(first.seen().state, State::on);
  EXPECT_EQ(second.seen().state, State::on);
  EXPECT_EQ(first.seen().off_step, second.seen().off_step);
  EXPECT_EQ(second.seen().followed, 1);
  for (int i = 0; i < 400; ++i) step_of(first, first_ns, 0.05);  // waits for nobody who has stopped
  EXPECT_EQ(first.seen().state, State::on);
}

// --- non-blocking collectives ---

PlanContent non_blocking_plan() {
  PlanContent plan = scripted_plan();
  plan.collectives[0].function = plan.collectives[1].function = 16;  // MPI_Iallreduce
  return plan;
}
void non_blocking_step(ScriptedRank& rank, bool wait_for_all) {
  const int requests[2] = {};
  uint64_t marks[2];
  for (int i = 0; i < 2; ++i) {
    marks[i] = rank.session().began({100, 2, 16, "MPI_FLOAT", false}, 1, false);
    Session::turn();  // no window while it is only issued
    rank.session().issued(marks[i], &requests[i]);
  }
  for (int i = 0; i < (wait_for_all ? 1 : 2); ++i) {
    rank.session().wait_began(wait_for_all ? nullptr : &requests[i]);
    for (int turn = 0; turn < 10; ++turn) Session::turn();
    for (int done = 0; done < (wait_for_all ? 2 : 1); ++done) {
      rank.session().completed(marks[wait_for_all ? done : i], 2);
    }
    rank.session().wait_ended();
  }
  rank.allreduce(8, 10);
  rank.compute(1'000'000);
}

TEST(Session, FetchesInTheWaitForANonBlockingCollective) {
  LoadedRank rank(non_blocking_plan());
  for (int i = 0; i < 2 + 4; ++i) non_blocking_step(rank, false);
  EXPECT_EQ(rank.seen().locks, 1U);
  EXPECT_EQ(rank.seen().fetched_bytes, 2 * 8192U);
}

TEST(Session, FetchesTheOldestWindowInAWaitForSeveral) {
  LoadedRank rank(non_blocking_plan());
  for (int i = 0; i < 2 + 4; ++i) non_blocking_step(rank, true);
  EXPECT_EQ(rank.seen().fetched_bytes, 2 * 4096U);
}

TEST(Session, ForgetsRequestsThatAreNeverWaitedFor) {
  LoadedRank rank(non_blocking_plan());
  const int request = 0;
  for (int i = 0; i < 200; ++i) {
    for (int call = 0; call < 2; ++call) {
      const uint64_t mark = rank.session().began({100, 2, 16, "MPI_FLOAT", false}, 1, false);
      rank.session().issued(mark, &request);
    }
    rank.allreduce(8, 10);
    rank.compute(1'000'000);
  }
  EXPECT_EQ(rank.seen().fetched_bytes, 0U);
  // The table is full of old ones; new ones still find a place.
  for (int i = 0; i < 8; ++i) non_blocking_step(rank, false);
  EXPECT_EQ(rank.seen().state, State::off);  // SAME, as nothing was ever fetched
}

// --- the stand-in link ---

TEST(Session, AddsTheLinkToEveryCollectiveInEveryArm) {
  LoadedRank rank(scripted_plan({.link_latency_ns = 50'000}));
  const int64_t before = scripted_now_ns;
  rank.allreduce(4096, 0);
  EXPECT_GE(scripted_now_ns - before, 50'000);
  const int64_t alone = scripted_now_ns;
  rank.session().began({8, 1, 0, "MPI_FLOAT", false}, 1, true);
  rank.session().ended(1);  // a communicator of one rank has no link
  EXPECT_LT(scripted_now_ns - alone, 1000);
  rank.steps(2 + 5);
  for (uint64_t i = 0; i < rank.seen().samples; ++i) {
    EXPECT_GE(rank.samples()[i].dur_ns, 1'150'000U);
  }
}

TEST(Session, FetchesWhileTheLinkLasts) {
  LoadedRank rank(scripted_plan({.link_latency_ns = 50'000}));
  for (int i = 0; i < 2 + 4; ++i) rank.step(0, 0);
  EXPECT_EQ(rank.seen().fetched_bytes, 2 * 8192U);
}

}  // namespace
}  // namespace preserve::apply
