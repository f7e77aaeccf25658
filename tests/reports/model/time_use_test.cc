// SPDX-License-Identifier: Apache-2.0
#include "reports/model/time_use.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <tuple>

#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::report {
namespace {

struct Interval {
  size_t time_class;
  int64_t start_ns, end_ns;
};

RankTime sweep(std::vector<Interval> ops, int64_t begin_ns, int64_t end_ns) {
  std::sort(ops.begin(), ops.end(),
            [](const auto& a, const auto& b) { return a.start_ns < b.start_ns; });
  ClassSweep sweep(begin_ns, end_ns);
  for (const Interval& op : ops) sweep.add(op.time_class, op.start_ns, op.end_ns);
  RankTime time;
  sweep.finish(time, "the test");
  return time;
}

// The definition, one nanosecond at a time.
RankTime by_definition(const std::vector<Interval>& ops, int64_t begin_ns, int64_t end_ns) {
  RankTime time;
  time.wall_ns = end_ns - begin_ns;
  constexpr size_t kIdle = kTimeClasses.size() - 1;
  for (const Interval& op : ops) ++time.classes[op.time_class].operators;
  for (int64_t now = begin_ns; now < end_ns; ++now) {
    size_t winner = kIdle;
    for (size_t c = kIdle; c-- > 0;) {
      const bool runs = std::any_of(ops.begin(), ops.end(), [&](const Interval& op) {
        return op.time_class == c && op.start_ns <= now && now < op.end_ns;
      });
      if (!runs) continue;
      ++time.classes[c].busy_ns;
      winner = c;
    }
    ++time.classes[winner].exclusive_ns;
    if (winner == kIdle) ++time.classes[kIdle].busy_ns;
  }
  return time;
}

RC_GTEST_PROP(ClassSweep, AgreesWithTheDefinitionNanosecondByNanosecond, ()) {
  const auto rows = *rc::gen::container<std::vector<std::tuple<int, int, int>>>(
      rc::gen::tuple(rc::gen::inRange(0, 5), rc::gen::inRange(-20, 120), rc::gen::inRange(0, 60)));
  std::vector<Interval> ops;
  ops.reserve(rows.size());
  for (const auto& [time_class, start, length] : rows) {
    ops.push_back({static_cast<size_t>(time_class), start, start + length});
  }
  const RankTime actual = sweep(ops, 0, 100);
  const RankTime expected = by_definition(ops, 0, 100);
  int64_t sum_ns = 0;
  for (size_t c = 0; c < kTimeClasses.size(); ++c) {
    RC_ASSERT(actual.classes[c].exclusive_ns == expected.classes[c].exclusive_ns);
    RC_ASSERT(actual.classes[c].busy_ns == expected.classes[c].busy_ns);
    RC_ASSERT(actual.classes[c].operators == expected.classes[c].operators);
    sum_ns += actual.classes[c].exclusive_ns;
  }
  RC_ASSERT(sum_ns == actual.wall_ns);
}

TEST(ClassSweep, GivesAMomentWithComputeAndCollectiveToCompute) {
  const RankTime time = sweep({{0, 0, 60}, {2, 40, 90}}, 0, 100);
  EXPECT_EQ(time.classes[0].exclusive_ns, 60);
  EXPECT_EQ(time.classes[2].exclusive_ns, 30);
  EXPECT_EQ(time.classes[2].busy_ns, 50);
  EXPECT_EQ(time.classes[5].exclusive_ns, 10);
}

TimeUse use_of(const test::SyntheticTrace& spec, const std::function<void(TraceDb&)>& tweak = {}) {
  return summarise_time(test::synthetic_trace(spec, tweak));
}

TEST(TimeUse, CountsDecodeStepsOfEveryRankWithoutTheColdFirst) {
  const TimeUse use = use_of({.ranks = 3, .layers = 2, .steps = 6});
  EXPECT_EQ(use.scope, "decode steps");
  ASSERT_EQ(use.ranks.size(), 3U);
  constexpr int64_t kOperatorsPerStep = 1 + 2 * 9 + 2;
  for (const RankTime& rank : use.ranks) {
    EXPECT_EQ(rank.steps, 5);
    EXPECT_EQ(rank.classes[2].operators, 5 * 5);
    EXPECT_EQ(rank.classes[2].exclusive_ns, 5 * 5 * 10'000);
    EXPECT_EQ(rank.classes[5].exclusive_ns, 5 * kOperatorsPerStep * 200) << "the gaps";
  }
  EXPECT_EQ(use.operators, 3 * 5 * kOperatorsPerStep);
}

TEST(TimeUse, GathersTheLayersOfAModel) {
  const TimeUse use = use_of({.ranks = 2, .layers = 12});
  ASSERT_EQ(use.top.size(), 9U + 3U);
  EXPECT_EQ(use.top.front().name, "layers.*.mlp.gate_up");
  EXPECT_EQ(use.top.front().names, 12);
  EXPECT_EQ(use.top.front().count, 2 * 5 * 12);
}

TEST(TimeUse, GathersNamesBeyondTheTopIntoOneRow) {
  const TimeUse use = use_of({.layers = 12}, [](TraceDb& db) {
    db.execute("UPDATE string SET value = 'kernel' || id WHERE value <> 'decode_step'");
  });
  ASSERT_EQ(use.top.size(), 41U);
  EXPECT_EQ(use.top.back().name, "[others]");
  EXPECT_EQ(use.top.back().names, 12 * 9 + 3 - 40);
}

TEST(TimeUse, DescribesCollectivesByFunctionAndSize) {
  const TimeUse use = use_of({.ranks = 2, .layers = 2});
  ASSERT_EQ(use.collectives.size(), 2U);
  EXPECT_EQ(use.collectives[0].function, "allreduce");
  EXPECT_EQ(use.collectives[0].bytes, 2048);
  EXPECT_EQ(use.collectives[0].count, 2 * 5 * 4);
  EXPECT_EQ(use.collectives[0].median_ns, 10'000);
  EXPECT_EQ(use.collectives[1].function, "allgather");
}

TEST(TimeUse, CoversTheWholeRecordingWhenThereIsNoStep) {
  const TimeUse use = use_of({.ranks = 2, .layers = 2, .steps = 1, .annotate_steps = false});
  EXPECT_EQ(use.scope, "whole recording");
  ASSERT_EQ(use.ranks.size(), 2U);
  EXPECT_EQ(use.ranks[0].steps, 0);
  EXPECT_EQ(use.operators, 2 * 21);
  EXPECT_EQ(use.ranks[0].classes[5].exclusive_ns, 20 * 200);
}

// Wherever it is: in the first step, which is not in scope, or in no step.
TEST(TimeUse, OfADamagedOperatorIsRefused) {
  for (const char* change :
       {"end_ns = start_ns - 5", "end_ns = start_ns - 5, step_id = NULL",
        "start_ns = -9223372036854775807", "end_ns = 9223372036854775807, start_ns = -2"}) {
    const auto damage = [&](TraceDb& db) {
      db.execute("PRAGMA ignore_check_constraints = 1");
      db.execute(fmt::format("UPDATE op SET {} WHERE id = 3", change));
    };
    EXPECT_THAT([&] { use_of({.layers = 1}, damage); }, test::fails_with("the file is damaged"))
        << change;
  }
}

}  // namespace
}  // namespace preserve::report
