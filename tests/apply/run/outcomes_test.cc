// SPDX-License-Identifier: Apache-2.0
// What processes left behind, put together: blocks of steps, the result, and what must be said of
// it.
#include "apply/run/outcomes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "tests/support/synthetic_trace.h"

namespace preserve::apply {
namespace {

using testing::Contains;
using testing::HasSubstr;

struct Left {  // by one process
  OutcomeHeader header{};
  std::vector<WindowOutcome> windows{{10, 900, 100}};
  std::vector<TensorOutcome> tensors{{TensorState::found, {}, 4096}};
  std::vector<StepSample> samples{};
};

class OutcomesTest : public testing::Test {
 protected:
  OutcomesTest() {
    schedule_.ranks = 2;
    schedule_.signature.resize(3);
    schedule_.plan.speedup = 1.1;
    schedule_.plan.baseline_step_ns = 1000;
  }

  static Left rank(int number) {
    Left left;
    left.header.rank = number;
    left.header.ranks = 2;
    left.header.state = State::measuring;
    left.header.locks = 1;
    left.header.followed = number == 0 ? 0 : 1;
    constexpr double kInfinite = std::numeric_limits<double>::infinity();
    left.header.null = left.header.control = {0, 0, -kInfinite, kInfinite};
    left.header.applied = {20, std::log(1.2), std::log(1.1), std::log(1.3)};
    // A pair, (original, applied), of which the second rank is the slower one. The first step of an
    // arm says nothing.
    for (uint32_t step = 0; step < 4; ++step) {
      left.samples.push_back({(step < 2 ? 1200U : 1000U) + (step % 2 == 0 ? 300U : 0U) +
                                  10U * static_cast<unsigned>(number),
                              step, step < 2 ? Arm::original : Arm::applied, 1, 0});
    }
    return left;
  }

  void write(const Left& left) {
    OutcomeHeader header = left.header;
    std::memcpy(header.magic, kOutcomeMagic, sizeof(header.magic));
    header.version = kOutcomeVersion;
    header.header_bytes = sizeof(header);
    header.windows = static_cast<uint32_t>(left.windows.size());
    header.tensors = static_cast<uint32_t>(left.tensors.size());
    header.sample_capacity = static_cast<uint32_t>(left.samples.size());
    header.samples = left.samples.size();
    header.file_bytes = outcome_bytes(header.windows, header.tensors, header.sample_capacity);
    std::ofstream out(directory_.path() / fmt::format("host.{}.outcome", ++files_),
                      std::ios::binary);
    const auto put = [&](const void* from, size_t bytes) {
      out.write(static_cast<const char*>(from), static_cast<std::streamsize>(bytes));
    };
    put(&header, sizeof(header));
    put(left.windows.data(), left.windows.size() * sizeof(WindowOutcome));
    put(left.tensors.data(), left.tensors.size() * sizeof(TensorOutcome));
    put(left.samples.data(), left.samples.size() * sizeof(StepSample));
  }
  Outcomes read() const { return read_outcomes(directory_.path()); }
  std::vector<std::string> remarks() const { return remarks_on(read(), schedule_, {"a.weight"}); }

  Schedule schedule_;
  test::TemporaryDirectory directory_;
  int files_ = 0;
};

TEST_F(OutcomesTest, OfAllRanksMakeOneResult) {
  write(rank(1));
  write(rank(0));
  const Outcomes outcomes = read();
  ASSERT_NE(outcomes.deciding(), nullptr);
  EXPECT_EQ(outcomes.deciding()->view.header().rank, 0);
  const std::vector<Block> blocks = blocks_of(outcomes);
  ASSERT_EQ(blocks.size(), 2U);
  EXPECT_EQ(blocks[0].step_ns, 1210) << "the slowest rank's";
  EXPECT_EQ(blocks[1].arm, Arm::applied);
  EXPECT_EQ(blocks[1].pair, blocks[0].pair);
  const ReplayResult result = result_of(outcomes, blocks, schedule_, 1000, Mode::guard);
  EXPECT_EQ(result.verdict, Verdict::fast);
  ASSERT_TRUE(result.arms[1].speedup.has_value());
  EXPECT_NEAR(result.arms[1].speedup->estimate, 1.2, 1e-9);
  EXPECT_DOUBLE_EQ(result.arms[1].issued_bytes, 90);
  EXPECT_THAT(remarks(), testing::IsEmpty());
}

// One pair that something else disturbed does not move them.
TEST_F(OutcomesTest, AreMediansOfPairsWhereNothingIsDecided) {
  for (const int number : {0, 1}) {
    Left left = rank(number);
    left.samples.clear();
    for (uint32_t pair = 0; pair < 12; ++pair) {
      const bool original_first = pair % 2 == 0;
      for (uint32_t step = 0; step < 4; ++step) {
        const bool original = (step < 2) == original_first;
        const uint64_t dur_ns = pair == 5 && original ? 90'000 : original ? 1100 + pair : 1000;
        left.samples.push_back({dur_ns, 4 * pair + step,
                                original     ? Arm::original
                                : pair == 11 ? Arm::null
                                             : Arm::applied,
                                1, 0});
      }
    }
    write(left);
  }
  const Outcomes outcomes = read();
  const std::vector<Block> blocks = blocks_of(outcomes);
  const ReplayResult result = result_of(outcomes, blocks, schedule_, 1000, Mode::compare);
  EXPECT_EQ(result.arms[1].pairs, 11);
  EXPECT_DOUBLE_EQ(result.arms[1].speedup->estimate, 1.106);
  ASSERT_TRUE(result.arms[1].speedup->interval());
  EXPECT_GE(result.arms[1].speedup->interval()->low, 1.1);
  EXPECT_LT(result.arms[1].speedup->interval()->high, 1.111);
  EXPECT_EQ(result.arms[2].pairs, 1);
  EXPECT_FALSE(result.arms[2].speedup->interval());
  EXPECT_EQ(result.verdict, Verdict::fast);
  EXPECT_NEAR(result_of(outcomes, blocks, schedule_, 1000, Mode::guard).arms[1].speedup->estimate,
              1.2, 1e-9);
}

TEST_F(OutcomesTest, StepsThatRanksRanInDifferentArmsDoNotCount) {
  Left other = rank(1);
  other.samples[3].arm = Arm::original;
  write(rank(0));
  write(other);
  const std::vector<Block> blocks = blocks_of(read());
  ASSERT_EQ(blocks.size(), 2U);
  EXPECT_TRUE(blocks[0].counted);
  EXPECT_FALSE(blocks[1].counted);
}

TEST_F(OutcomesTest, SayWhyNothingHappened) {
  EXPECT_THAT(remarks(), Contains(HasSubstr("no process loaded the library")));
  Left shell;
  shell.header.rank = -1;
  std::strcpy(shell.header.program, "/bin/sh");
  write(shell);
  EXPECT_THAT(remarks(),
              Contains(testing::AllOf(HasSubstr("1 process loaded"),
                                      HasSubstr("none called MPI_Init"), HasSubstr("/bin/sh"))));
  write(shell);
  EXPECT_THAT(remarks(), Contains(HasSubstr("2 processes loaded")));
  Left other = shell;
  other.header.state = State::off;
  other.header.off = Off::other_library;
  write(other);
  EXPECT_THAT(remarks(), Contains(HasSubstr("not Open MPI")));
}

TEST_F(OutcomesTest, NameRanksThatAreMissingLostOrOff) {
  Left off = rank(0);
  off.header.state = State::off;
  off.header.off = Off::slow;
  off.tensors[0].state = TensorState::gone;
  off.header.surprises[static_cast<size_t>(Surprise::bytes)] = 3;
  write(off);
  std::ofstream(directory_.path() / "cut.outcome") << "half";
  EXPECT_THAT(remarks(), testing::IsSupersetOf(
                             {HasSubstr("1 of 2 ranks left no outcome"), HasSubstr("rank 0: SLOW"),
                              HasSubstr("3 another size"), HasSubstr("gone, a.weight the first"),
                              HasSubstr("cut.outcome")}));
  EXPECT_EQ(result_of(read(), {}, schedule_, 0, Mode::guard).verdict, Verdict::slow);
}

TEST_F(OutcomesTest, ThatNeverFoundTheStepSaySo) {
  Left searching = rank(0);
  searching.header.locks = 0;
  searching.header.state = State::searching;
  write(searching);
  EXPECT_THAT(remarks(), Contains(HasSubstr("without recognising the step")));
}

}  // namespace
}  // namespace preserve::apply
