// SPDX-License-Identifier: Apache-2.0
// What is read of a replay.db, and what is refused.
#include "planner/measure/replay_findings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
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
    meta_ = {{"kind", "replay"},
             {"interrupted_kept", "0"},
             {"prefetch_pairs", "50"},
             {"prefetch_speedup", "1.2"},
             {"prefetch_speedup_low", "1.1"},
             {"prefetch_speedup_high", "1.3"},
             {"prefetch_issued_bytes", "900"},
             {"prefetch-1_pairs", "4"},
             {"prefetch-1_speedup", "1.05"},
             {"prefetch-1_issued_bytes", "1000"}};
  }

  ReplayFindings read() {
    const auto path = directory_.path() / fmt::format("{}.db", ++files_);
    TraceDb db = TraceDb::create(path);
    for (const auto& [key, value] : meta_) db.set_meta(key, value);
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      const ArmId id = db.add_arm(arms_[arm]);
      for (int64_t rank = 0; rank < 2; ++rank) {
        for (int64_t op = 0; op < ops_; ++op) {
          // Arms fetch ever more: the collective gets longer by 100 ns, the reader 2000 ns shorter;
          // the second rank is 500 ns slower in everything.
          const auto step = static_cast<int64_t>(arm);
          const int64_t dur_ns = 10'000 + 500 * rank + (op == 0 ? 100 : -2000) * step;
          db.execute(
              "INSERT INTO arm_op (arm_id, rank, ordinal, name, median_ns, mad_ns, samples) "
              "VALUES (?, ?, ?, 'op', ?, 0, 9)",
              {id.value, rank, op, dur_ns});
        }
      }
    }
    db.finish();
    return read_findings(TraceDb::open(path), schedule_);
  }

  std::string refusal() {
    try {
      read();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      return error.what();
    }
    return "accepted";
  }

  test::TinyStep step_;
  Schedule schedule_;
  std::map<std::string, std::string> meta_;
  std::vector<std::string> arms_{"baseline", "prefetch", "prefetch-1"};
  int64_t ops_ = 2;
  test::TemporaryDirectory directory_;
  int files_ = 0;
};

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
  meta_["baseline_step_ns"] = "20000";
  meta_["null_pairs"] = "50";
  meta_["null_speedup"] = "0.8";
  meta_["null_speedup_low"] = "0.5";
  meta_["null_speedup_high"] = "1.25";
  const std::optional<Interval> cost_ns = read().plans[0].window_cost_ns;
  ASSERT_TRUE(cost_ns);
  EXPECT_DOUBLE_EQ(cost_ns->low, -4000);
  EXPECT_DOUBLE_EQ(cost_ns->estimate, 5000);
  EXPECT_DOUBLE_EQ(cost_ns->high, 20'000);
  EXPECT_FALSE(read().plans[1].window_cost_ns) << "the arm has the windows of the first plan";
  meta_["null_pairs"] = "9";
  EXPECT_FALSE(read().plans[0].window_cost_ns);
  meta_["null_pairs"] = "50";
  meta_["null_speedup_low"] = "0";
  EXPECT_THAT(refusal(), HasSubstr("null_speedup_low"));
}

TEST_F(FindingsTest, NoPairIsNoFinding) {
  meta_.erase("prefetch_pairs");
  meta_.erase("prefetch_speedup");
  EXPECT_EQ(read().plans[0].speedup.pairs, 0);
  meta_["interrupted_kept"] = "1";
  EXPECT_TRUE(read().busy);
}

TEST_F(FindingsTest, NonsenseIsRefusedWithTheFile) {
  meta_["prefetch_speedup"] = "fast";
  EXPECT_THAT(refusal(), testing::AllOf(HasSubstr("1.db"), HasSubstr("prefetch_speedup")));
  meta_["prefetch_speedup"] = "nan";
  EXPECT_THAT(refusal(), HasSubstr("should be a number"));
  meta_["prefetch_speedup"] = "1.2";
  ops_ = 3;
  EXPECT_THAT(refusal(), HasSubstr("times of 3 operators"));
  ops_ = 2;
  arms_.pop_back();
  EXPECT_THAT(refusal(), HasSubstr("arm prefetch-1 is missing"));
  meta_["kind"] = "trace";
  EXPECT_THAT(refusal(), HasSubstr("not a replay.db"));
}

}  // namespace
}  // namespace preserve
