// SPDX-License-Identifier: Apache-2.0
// The result of a replay: what is written comes back, what is damaged is refused, and the words for
// its verdict.
#include "db/replay_result.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::AllOf;
using testing::HasSubstr;

ReplayResult measured_result() {
  ReplayResult result;
  result.arms = {
      {.name = "baseline", .counted = 20, .pairs = 20, .step_ns = Estimated{1e6, 9e5, 2e6}},
      {.name = "prefetch",
       .counted = 20,
       .pairs = 20,
       .step_ns = Estimated{9e5, 8e5, 1e6},
       .speedup = Estimated{1.1, 1.05, 1.15},
       .issued_bytes = 4096.5},
      {.name = "hot", .counted = 3, .pairs = 3, .speedup = Estimated{2}}};
  result.passes = 21;
  result.steps_per_sample = 8;
  result.stop_reason = "precise";
  result.verdict = Verdict::fast;
  result.winner = "prefetch";
  result.overlap_ratio = Estimated{1.02, 1.01, 1.03};
  result.ranks = 2;
  result.recorded_ranks = 4;
  result.link_latency_ns = 200'000;
  result.recorded_step_ns = 990'000;
  result.fidelity = 1.01;
  result.prediction_error = -0.02;
  result.realised_saved_ns = -7;
  result.warnings = {"a busy machine", "no arm overlap"};
  return result;
}

class ReplayResultFile : public testing::Test {
 protected:
  ReplayResult write_and_read(const ReplayResult& result, const std::string& damage = "") {
    const auto path = directory_.path() / fmt::format("{}.db", ++files_);
    TraceDb db = TraceDb::create(path);
    db.set_meta("kind", "replay");
    db.set_meta("collective", "mpi+link");
    db.set_meta("executor", "cpu");
    write_result(db, result);
    if (!damage.empty()) db.execute(damage);
    db.finish();
    return read_result(TraceDb::open(path));
  }

  test::TemporaryDirectory directory_;
  int files_ = 0;
};

TEST_F(ReplayResultFile, ComesBackAsItWasWritten) {
  const ReplayResult written = measured_result();
  const ReplayResult read = write_and_read(written);
  EXPECT_EQ(facts_of(read), facts_of(written)) << "every column";
  ASSERT_EQ(read.arms.size(), 3U);
  EXPECT_EQ(read.arms[1].speedup->low, 1.05);
  EXPECT_EQ(read.arms[1].issued_bytes, 4096.5);
  EXPECT_FALSE(read.arms[0].speedup);
  EXPECT_FALSE(read.arms[2].step_ns);
  EXPECT_FALSE(read.arms[2].speedup->interval());
  EXPECT_EQ(read.verdict, Verdict::fast);
  EXPECT_EQ(read.prediction_error, -0.02);
  EXPECT_FALSE(read.collective_slowdown);
  EXPECT_EQ(read.warnings, written.warnings);
  EXPECT_EQ(read.collective, "mpi+link");
  EXPECT_EQ(read.executor, "cpu");
}

TEST_F(ReplayResultFile, DamageIsRefusedNamingFileAndColumn) {
  for (const auto& [damage, column] :
       {std::pair("UPDATE arm SET speedup = 9e999 WHERE id = 2", "speedup"),
        {"UPDATE arm SET speedup_high = NULL WHERE id = 2", "speedup"},
        {"UPDATE arm SET speedup_low = 3 WHERE id = 2", "speedup"},
        {"UPDATE arm SET step_ns = 0", "step_ns"},
        {"UPDATE arm SET pairs = -1", "pairs"},
        {"UPDATE result SET steps_per_sample = 0", "steps_per_sample"},
        {"UPDATE result SET confidence_level = 1", "confidence_level"},
        {"UPDATE result SET fidelity = -1", "fidelity"},
        {"UPDATE result SET verdict = 'GOOD'", "verdict"}}) {
    const std::string sql = damage;
    EXPECT_THAT(
        [&] { write_and_read(measured_result(), sql); },
        test::fails_with(ErrorKind::input, AllOf(HasSubstr(".db: is damaged"), HasSubstr(column))))
        << damage;
  }
  EXPECT_THAT([&] { write_and_read(measured_result(), "DELETE FROM result"); },
              test::fails_with("holds no result"));
  EXPECT_THAT([&] { write_and_read(measured_result(), "UPDATE meta SET value = 'grid'"); },
              test::fails_with("neither a replay.db"));
}

TEST(VerdictText, NamesGainConditionsAndVerdict) {
  ReplayResult result = measured_result();
  EXPECT_THAT(verdict_text(result),
              AllOf(HasSubstr("10.0 % faster"), HasSubstr("with a 200 us stand-in link: FAST")));
  result.link_latency_ns = 0;
  result.collective = "stand-in";
  result.verdict = Verdict::ambiguous;
  EXPECT_THAT(verdict_text(result),
              HasSubstr("with stand-in collectives: AMBG (the samples do not decide)"));
  result.busy = true;
  EXPECT_THAT(verdict_text(result), HasSubstr("AMBG (the machine was too busy to decide)"));
}

TEST(VerdictText, NeedsAnInterval) {
  ReplayResult result = measured_result();
  EXPECT_EQ(undecided_reason(result), "");
  result.arms[1].pairs = 1;
  result.arms[1].speedup = Estimated{1.1};
  EXPECT_EQ(undecided_reason(result), "1 pair counted with the baseline, 10 are needed");
  result.arms.erase(result.arms.begin() + 1);
  EXPECT_EQ(undecided_reason(result), "the replay has no prefetch arm");
}

}  // namespace
}  // namespace preserve
