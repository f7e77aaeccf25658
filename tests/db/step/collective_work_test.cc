// SPDX-License-Identifier: Apache-2.0
#include "db/step/collective_work.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::synthetic_trace;
using testing::Each;
using testing::ElementsAre;

TEST(CollectiveWork, IsWhatTheRankTakesThatComesLast) {
  const TraceDb db = synthetic_trace({.layers = 1});
  FoldedStep step = fold_step(db);
  const std::vector<double> times_ns = collective_times_ns(step);
  ASSERT_EQ(times_ns.size(), 3u) << "two allreduces and an allgather";
  EXPECT_THAT(times_ns, Each(testing::Gt(5'000)));
  set_collective_work(step, std::vector<double>{2'000, 1e9, 0});
  std::vector<double> work_ns;
  for (const StepOp& op : step.ops) {
    if (op.kind == OpKind::collective) {
      work_ns.push_back(op.work_ns);
    } else {
      EXPECT_EQ(op.work_ns, 0) << op.name;
    }
  }
  EXPECT_THAT(work_ns, ElementsAre(2'000, times_ns[1], 0));
}

TEST(CollectiveWork, OneThatIsWaitedForLaterHasNone) {
  const TraceDb db = synthetic_trace({.layers = 1}, [](TraceDb& trace) {
    trace.execute("UPDATE collective SET blocking = 0");
  });
  EXPECT_THAT(collective_times_ns(fold_step(db)), ElementsAre());
}

TEST(CollectiveWork, IsKnownWhereAllRanksShareAHost) {
  EXPECT_TRUE(all_ranks_on_one_host(synthetic_trace(), 2));
  EXPECT_FALSE(all_ranks_on_one_host(synthetic_trace(), 3)) << "one was not recorded";
  const TraceDb apart = synthetic_trace({}, [](TraceDb& trace) {
    trace.execute("UPDATE process SET host = 'another' WHERE rank = 1");
  });
  EXPECT_FALSE(all_ranks_on_one_host(apart, 2));
}

}  // namespace
}  // namespace preserve
