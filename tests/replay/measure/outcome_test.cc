// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/outcome.h"

#include <gtest/gtest.h>

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
    measurement_.arms = {{"baseline", 20, 160'000, {1, 1, 1}, 0},
                         {"prefetch", 20, 140'000, {1.13, 1.14, 1.15}, 20},
                         {"prefetch-1", 20, 130'000, {1.2, 1.23, 1.25}, 20},
                         {"hot", 20, 100'000, {1.5, 1.6, 1.7}, 20}};
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

  Outcome outcome(int64_t recorded_step_ns = 160'000) const {
    return outcome_of(measurement_, times_, program_, prefetch_, schedule_, recorded_step_ns, 1000);
  }

  Measurement measurement_;
  OpTimes times_;
  StepProgram program_;
  ReplayArm prefetch_{"prefetch", ArmKind::plan, {}, {}, 0};
  Schedule schedule_;
};

TEST_F(OutcomeTest, FidelityIsReplayedOverRecorded) {
  const Outcome result = outcome(200'000);
  EXPECT_DOUBLE_EQ(result.fidelity, 0.8);
  EXPECT_DOUBLE_EQ(result.fidelity_op_median, 1.0);
  EXPECT_DOUBLE_EQ(result.fidelity_op_worst, 1.25);
  EXPECT_EQ(result.fidelity_op_worst_name, "norm");
}

TEST_F(OutcomeTest, AnOperatorThatTookNoTimeIsTheWorst) {
  times_.times[1] = {0, 0};  // gate_up of rank 0
  const Outcome result = outcome();
  EXPECT_LT(result.fidelity_op_worst, 0.001);
  EXPECT_EQ(result.fidelity_op_worst_name, "gate_up");
}

TEST_F(OutcomeTest, TheLinkIsOnBothSidesOfTheFidelity) {
  schedule_.link_latency_ns = 40'000;
  const Outcome result = outcome(120'000);  // one collective
  EXPECT_EQ(result.recorded_step_ns, 160'000);
  EXPECT_DOUBLE_EQ(result.fidelity, 1.0);
}

TEST_F(OutcomeTest, SavingsSlowdownAndPrediction) {
  const Outcome result = outcome();
  EXPECT_EQ(result.predicted_saved_ns, 32'000);
  EXPECT_EQ(result.realised_saved_ns, 25'000);
  EXPECT_DOUBLE_EQ(result.collective_slowdown, 1.1);
  EXPECT_DOUBLE_EQ(result.slowdown_per_byte_ns, 1.0);
  EXPECT_NEAR(result.prediction_error, 1.2 / 1.14 - 1, 1e-12);
}

TEST_F(OutcomeTest, TheWinnerIsAPlanOrTheBaseline) {
  EXPECT_EQ(outcome().winner, "prefetch-1");  // never the hot arm: nobody can run that
  measurement_.arms[1].speedup.low = measurement_.arms[2].speedup.low = 0.99;
  EXPECT_EQ(outcome().winner, "baseline");
}

TEST_F(OutcomeTest, ABusyMachineNamesNoWinner) {
  measurement_.interrupted_kept = true;
  EXPECT_EQ(outcome().winner, "baseline");
}

TEST_F(OutcomeTest, WithoutACountedSampleNothingIsClaimed) {
  for (ArmResult& arm : measurement_.arms) arm.counted = arm.pairs = 0;
  const Outcome result = outcome();
  EXPECT_EQ(result.fidelity, 0);
  EXPECT_EQ(result.prediction_error, 0);
  EXPECT_EQ(result.winner, "baseline");
}

}  // namespace
}  // namespace preserve
