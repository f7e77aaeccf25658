// SPDX-License-Identifier: Apache-2.0
#include "db/step/quality.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/step/folded_step.h"
#include "db/step/steps.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

using testing::HasSubstr;

constexpr int kOperators = 10, kSteps = 21;
constexpr int64_t kOperatorNs = 100'000, kGapNs = 10'000;

// A rank whose operators last kOperatorNs each, and longer by what `extra_ns` says.
TraceDb recording(const std::function<int64_t(int step, int op)>& extra_ns) {
  TraceDb db = TraceDb::create(":memory:");
  const ProcessId process = db.add(ProcessRow{.host = "h", .pid = 1, .rank = 3});
  const StreamId stream = db.add(StreamRow{.process = process});
  int64_t t = 0;
  for (int step = 0; step < kSteps; ++step) {
    const int64_t start_ns = t;
    for (int op = 0; op < kOperators; ++op) {
      const int64_t dur_ns = kOperatorNs + extra_ns(step, op);
      db.add(OpRow{.stream = stream,
                   .name = db.intern("op " + std::to_string(op)),
                   .start_ns = t,
                   .end_ns = t + dur_ns});
      t += dur_ns + kGapNs;
    }
    db.add(RangeRow{
        .stream = stream, .name = db.intern("decode_step"), .start_ns = start_ns, .end_ns = t});
  }
  mark_steps(db);
  db.finish();
  return db;
}

TEST(Quality, StepsThatAreAlike) {
  const TraceDb db = recording([](int, int) { return 0; });
  const RecordingQuality quality = worst_quality(db).value();
  EXPECT_EQ(quality.rank, 3);
  EXPECT_EQ(quality.steps, kSteps);
  EXPECT_EQ(quality.steps_used, kSteps - 1);
  EXPECT_EQ(quality.interrupted, 0);
  EXPECT_DOUBLE_EQ(quality.step_ns, kOperators * (kOperatorNs + kGapNs));
  EXPECT_DOUBLE_EQ(quality.explained_ns, kOperators * kOperatorNs);
  EXPECT_DOUBLE_EQ(quality.repeating_ns, quality.step_ns) << "gaps that recur are no noise";
  EXPECT_DOUBLE_EQ(quality.varying, 0);
  EXPECT_FALSE(quality.too_noisy());
  require_quality(db, false);
}

TEST(Quality, EveryStepLosesItsTimeElsewhere) {
  const TraceDb db =
      recording([](int step, int op) { return op == step % kOperators ? 2'000'000 : 0; });
  const RecordingQuality quality = worst_quality(db).value();
  EXPECT_DOUBLE_EQ(quality.step_ns, kOperators * (kOperatorNs + kGapNs) + 2e6);
  EXPECT_DOUBLE_EQ(quality.repeating_ns, kOperators * (kOperatorNs + kGapNs));
  EXPECT_TRUE(quality.too_noisy());
  EXPECT_THAT([&] { require_quality(db, false); },
              test::fails_with(ErrorKind::input, testing::AllOf(HasSubstr("too noisy to plan from"),
                                                                HasSubstr("--force"),
                                                                HasSubstr("64.5 % of the step"))));
  require_quality(db, true);
}

TEST(Quality, AFewInterruptedStepsAreCountedAndHarmless) {
  const TraceDb db =
      recording([](int step, int op) { return step % 7 == 1 && op == 4 ? 4'000'000 : 0; });
  const RecordingQuality quality = worst_quality(db).value();
  EXPECT_EQ(quality.interrupted, 3);
  EXPECT_DOUBLE_EQ(quality.irregular(), 0);
  EXPECT_FALSE(quality.too_noisy());
}

TEST(Quality, OperatorsThatNeverLastTheSame) {
  const TraceDb db = recording([](int step, int op) {
    return ((step + op) % 3 - 1) * kOperatorNs * 3 / 4;  // the step as a whole hardly differs
  });
  const RecordingQuality quality = worst_quality(db).value();
  EXPECT_LT(quality.irregular(), 0.1);
  EXPECT_GT(quality.varying, 0.5);
  EXPECT_TRUE(quality.too_noisy());
}

TEST(Quality, OfALongRecordingEvenlySpacedStepsAreEnough) {
  const TraceDb db = recording([](int step, int) { return step >= 15 ? 50'000 : 0; });
  const FoldedStep all = fold_times(db, ProcessId{1}, kSteps * kOperators);
  EXPECT_EQ(all.steps_total, kSteps / 2 + 1);
  const FoldedStep few = fold_times(db, ProcessId{1}, 40);
  EXPECT_EQ(few.steps_total, 4);
  EXPECT_EQ(few.ops.size(), static_cast<size_t>(kOperators));
  EXPECT_DOUBLE_EQ(few.wall_ns, kOperators * (kOperatorNs + kGapNs));
  EXPECT_EQ(fold_times(db, ProcessId{1}, 1'000'000).steps_total, kSteps);
}

}  // namespace
}  // namespace preserve
