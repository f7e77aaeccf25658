// SPDX-License-Identifier: Apache-2.0
// What is read of a replay.db, and what is refused.
#include "planner/measure/replay_findings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "db/replay_result.h"
#include "tests/planner/tiny_step.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::HasSubstr;

// A collective that fetches for the reader after it, two ranks.
class FindingsTest : public testing::Test {
 protected:
  FindingsTest() {
    const int32_t window = step_.collective(10'000);
    const int32_t reader = step_.reader("gate", 100'000, 10'000);
    test::prefetch(schedule_.plan, *step_, window, reader, 1000);
    schedule_.plan.windows[0].used_bytes = 1000;
    schedule_.candidates = {schedule_.plan};
    schedule_.step_ops = 2;
    result_.arms = {{.name = "baseline"}, {.name = "prefetch"}, {.name = "prefetch-1"}};
    result_.arms[1].pairs = 50;
    result_.arms[1].speedup = Estimated{1.2, 1.1, 1.3};
    result_.arms[1].issued_bytes = 900;
    result_.arms[2].pairs = 4;
    result_.arms[2].speedup = Estimated{1.05};
    result_.arms[2].issued_bytes = 1000;
  }

  ReplayFindings read() {
    const auto path = directory_.path() / fmt::format("{}.db", ++files_);
    TraceDb db = TraceDb::create(path);
    db.set_meta("kind", kind_);
    write_result(db, result_);
    for (size_t arm = 0; arm < result_.arms.size(); ++arm) {
      for (int64_t rank = 0; rank < 2; ++rank) {
        for (int64_t op = 0; op < ops_; ++op) {
          // Arms fetch ever more: the collective gets longer by 100 ns, the reader 2000 ns shorter;
          // the second rank is 500 ns slower in everything.
          const auto step = static_cast<int64_t>(arm);
          const int64_t dur_ns = 10'000 + 500 * rank + (op == 0 ? 100 : -2000) * step;
          db.execute(
              "INSERT INTO arm_op (arm_id, rank, ordinal, name, median_ns, mad_ns, samples) "
              "VALUES (?, ?, ?, 'op', ?, 0, 9)",
              {step + 1, rank, op, dur_ns});
        }
      }
    }
    db.finish();
    return read_findings(TraceDb::open(path), schedule_);
  }

  auto refusal(const char* text) {
    return testing::ThrowsMessage<Error>(testing::AllOf(HasSubstr(".db"), HasSubstr(text)));
  }

  test::TinyStep step_;
  Schedule schedule_;
  ReplayResult result_;
  std::string kind_ = "replay";
  int64_t ops_ = 2;
  test::TemporaryDirectory directory_;
  int files_ = 0;
};

TEST_F(FindingsTest, AWindowBesideAnOperatorIsNoCollective) {
  EXPECT_DOUBLE_EQ(read().plans[0].collectives_added_ns, 100);
  schedule_.signature = {{.ordinal = 1, .function = "allreduce"}};  // and the window is at 0
  EXPECT_DOUBLE_EQ(read().plans[0].collectives_added_ns, 0);
}

TEST_F(FindingsTest, AreThoseOfEachPlan) {
  const ReplayFindings findings = read();
  EXPECT_FALSE(findings.busy);
  ASSERT_EQ(findings.plans.size(), 2U);
  const PlanFindings& plan = findings.plans[0];
  EXPECT_EQ(plan.speedup.pairs, 50);
  EXPECT_DOUBLE_EQ(plan.speedup.interval.low, 1.1);
  EXPECT_DOUBLE_EQ(plan.speedup.interval.estimate, 1.2);
  EXPECT_DOUBLE_EQ(plan.speedup.interval.high, 1.3);
  EXPECT_DOUBLE_EQ(plan.issued_bytes, 900);
  EXPECT_DOUBLE_EQ(plan.consumers_ns, 10'250);
  EXPECT_DOUBLE_EQ(plan.saved_ns, 2000);
  EXPECT_DOUBLE_EQ(plan.collectives_added_ns, 100);
  EXPECT_DOUBLE_EQ(findings.plans[1].saved_ns, 4000);
  EXPECT_EQ(findings.plans[1].speedup.pairs, 4);
}

TEST_F(FindingsTest, WindowsWithNothingToFetchTellWhatAWindowCosts) {
  EXPECT_FALSE(read().plans[0].window_cost_ns);
  result_.arms[0].step_ns = Estimated{20'000};
  result_.arms.push_back({.name = "null", .pairs = 50, .speedup = Estimated{0.8, 0.5, 1.25}});
  const std::optional<Interval> cost_ns = read().plans[0].window_cost_ns;
  ASSERT_TRUE(cost_ns);
  EXPECT_DOUBLE_EQ(cost_ns->low, -4000);
  EXPECT_DOUBLE_EQ(cost_ns->estimate, 5000);
  EXPECT_DOUBLE_EQ(cost_ns->high, 20'000);
  EXPECT_FALSE(read().plans[1].window_cost_ns) << "the arm has the windows of the first plan";
  result_.arms[3].speedup = Estimated{0.8};  // too few pairs for an interval
  EXPECT_FALSE(read().plans[0].window_cost_ns);
}

TEST_F(FindingsTest, NoPairIsNoFinding) {
  result_.arms[1] = {.name = "prefetch"};
  EXPECT_EQ(read().plans[0].speedup.pairs, 0);
  result_.busy = true;
  EXPECT_TRUE(read().busy);
}

TEST_F(FindingsTest, FilesThatDoNotFitAreRefused) {
  ops_ = 3;
  EXPECT_THAT([&] { read(); }, refusal("times of 3 operators"));
  ops_ = 2;
  result_.arms.pop_back();
  EXPECT_THAT([&] { read(); }, refusal("arm prefetch-1 is missing"));
  kind_ = "trace";
  EXPECT_THAT([&] { read(); }, refusal("neither a replay.db"));
}

}  // namespace
}  // namespace preserve
