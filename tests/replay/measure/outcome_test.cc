// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/outcome.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "replay/measure/summary.h"

namespace preserve {
namespace {

// Two ranks, three operators: a collective of 10 us that carries 1000 bytes, its consumer of 100
// us, an operator of 50 us.
class OutcomeTest : public testing::Test {
 protected:
  OutcomeTest() {
    for (const char* name : {"allreduce", "gate_up", "norm"}) {
      ProgramOp op;
      op.name = name;
      program_.ops.push_back(op);
    }
    program_.ops[0].collective = StepCollective{"allreduce", 1024, 2, {}, true, "float"};
    prefetch_.windows = {{0, {{0, 0, 1000}}}};
    prefetch_.consumers = {1};
    prefetch_.planned_bytes = 1000;
    schedule_.plan.speedup = 1.2;
    PlannedWindow window;
    window.prefetches.resize(2);
    window.prefetches[0].predicted_saved_ns = 20'000;
    window.prefetches[1].predicted_saved_ns = 12'000;
    schedule_.plan.windows = {window};
    result_.arms = {arm("baseline", 160'000, {}),
                    arm("prefetch", 140'000, Estimated{1.14, 1.13, 1.15}),
                    arm("prefetch-1", 130'000, Estimated{1.23, 1.2, 1.25}),
                    arm("hot", 100'000, Estimated{1.6, 1.5, 1.7})};
    result_.arms[1].issued_bytes = 1000;
    times_.arms = 2;
    times_.ranks = 2;
    times_.ops = 3;
    for (const double consumer_ns : {100'000.0, 75'000.0}) {
      for (int rank = 0; rank < 2; ++rank) {
        const double collective_ns = consumer_ns < 100'000 ? 11'000 : 10'000;
        times_.times.push_back({collective_ns, 1});
        times_.times.push_back({consumer_ns, 1});
        times_.times.push_back({50'000, 1});
      }
    }
    times_.recorded_ns = {10'000, 100'000, 40'000, 10'000, 100'000, 50'000};
  }

  static ArmResult arm(const char* name, double step_ns, const std::optional<Estimated>& speedup) {
    ArmResult arm{.name = name, .counted = 20, .pairs = 20};
    arm.step_ns = Estimated{step_ns};
    arm.speedup = speedup;
    return arm;
  }

  ReplayResult outcome(int64_t recorded_step_ns = 160'000) const {
    ReplayResult result = result_;
    add_outcome(times_, program_, prefetch_, schedule_, recorded_step_ns, result);
    return result;
  }

  ReplayResult result_;
  OpTimes times_;
  StepProgram program_;
  ReplayArm prefetch_{"prefetch", ArmKind::plan, {}, {}, 0};
  Schedule schedule_;
};

TEST_F(OutcomeTest, FidelityIsReplayedOverRecorded) {
  const ReplayResult result = outcome(200'000);
  EXPECT_DOUBLE_EQ(result.fidelity.value(), 0.8);
  EXPECT_DOUBLE_EQ(result.fidelity_op_median.value(), 1.0);
  EXPECT_DOUBLE_EQ(result.fidelity_op_worst.value(), 1.25);
  EXPECT_EQ(result.fidelity_op_worst_name, "norm");
}

TEST_F(OutcomeTest, AnOperatorThatTookNoTimeIsTheWorst) {
  times_.times[1] = {0, 0};  // gate_up of rank 0
  const ReplayResult result = outcome();
  EXPECT_LT(result.fidelity_op_worst.value(), 0.001);
  EXPECT_EQ(result.fidelity_op_worst_name, "gate_up");
}

TEST_F(OutcomeTest, TheLinkIsOnBothSidesOfTheFidelity) {
  schedule_.link_latency_ns = 40'000;
  const ReplayResult result = outcome(120'000);  // one collective
  EXPECT_EQ(result.recorded_step_ns, 160'000);
  EXPECT_DOUBLE_EQ(result.fidelity.value(), 1.0);
}

TEST_F(OutcomeTest, SavingsSlowdownAndPrediction) {
  const ReplayResult result = outcome();
  EXPECT_EQ(result.predicted_saved_ns, 32'000);
  EXPECT_EQ(result.realised_saved_ns, 25'000);
  EXPECT_DOUBLE_EQ(result.collective_slowdown.value(), 1.1);
  EXPECT_DOUBLE_EQ(result.slowdown_per_byte_ns.value(), 1.0);
  EXPECT_NEAR(result.prediction_error.value(), 1.2 / 1.14 - 1, 1e-12);
}

TEST_F(OutcomeTest, TheWinnerIsAPlanOrTheBaseline) {
  EXPECT_EQ(outcome().winner, "prefetch-1");  // never the hot arm: nobody can run that
  result_.arms[1].speedup->low = result_.arms[2].speedup->low = 0.99;
  EXPECT_EQ(outcome().winner, "baseline");
}

TEST_F(OutcomeTest, ABusyMachineNamesNoWinner) {
  result_.busy = true;
  EXPECT_EQ(outcome().winner, "baseline");
}

TEST_F(OutcomeTest, WithoutACountedSampleNothingIsClaimed) {
  for (ArmResult& arm : result_.arms) arm = ArmResult{.name = arm.name};
  const ReplayResult result = outcome();
  EXPECT_FALSE(result.fidelity);
  EXPECT_FALSE(result.prediction_error);
  EXPECT_EQ(result.winner, "baseline");
}

// One pair of a busy machine would read as "0.440x, error +127 %".
TEST_F(OutcomeTest, FromTooFewPairsNeitherRatioNorErrorIsClaimed) {
  result_.arms[1] = arm("prefetch", 140'000, Estimated{0.44});
  result_.arms[1].pairs = 1;
  const ReplayResult result = outcome();
  EXPECT_FALSE(result.prediction_error);
  const std::string text = summary_of(result);
  EXPECT_THAT(text, testing::HasSubstr("too few pairs (1)"));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("0.440")));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("error")));
}

}  // namespace
}  // namespace preserve
