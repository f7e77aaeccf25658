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

// Of each collective of a step, one after another.
std::vector<double> work_of(const FoldedStep& step) {
  std::vector<double> work_ns;
  for (const StepOp& op : step.ops) {
    if (op.kind == OpKind::collective) {
      work_ns.push_back(op.work_ns);
    } else {
      EXPECT_EQ(op.work_ns, 0) << op.name;
    }
  }
  return work_ns;
}

class CollectiveWorkTest : public testing::Test {
 protected:
  // Two allreduces and an allgather, which last 5, 6 and 7 us here, and 1 us less on rank 1 but for
  // the last one.
  CollectiveWorkTest() {
    double dur_ns = 5'000;
    for (size_t i = 0; i < step_.ops.size(); ++i) {
      if (step_.ops[i].kind != OpKind::collective) continue;
      collectives_.push_back(i);
      step_.ops[i].dur_ns = dur_ns;
      other_.ops[i].dur_ns = collectives_.size() == 3 ? 9'000 : dur_ns - 1'000;
      dur_ns += 1'000;
    }
  }

  std::vector<double> found() {
    CollectiveWork work(step_);
    work.add(other_);
    work.set(step_);
    return work_of(step_);
  }

  FoldedStep step_ = fold_step(synthetic_trace({.layers = 1}), 0);
  FoldedStep other_ = fold_step(synthetic_trace({.layers = 1}), 1);
  std::vector<size_t> collectives_;
};

TEST_F(CollectiveWorkTest, IsWhatTheRankTakesThatComesLast) {
  EXPECT_THAT(found(), ElementsAre(4'000, 5'000, 7'000));
}

TEST_F(CollectiveWorkTest, OneThatIsWaitedForLaterHasNone) {
  step_.ops[collectives_[1]].collective->blocking = false;
  other_.ops[collectives_[1]].collective->blocking = false;
  EXPECT_THAT(found(), ElementsAre(4'000, 0, 7'000));
}

TEST_F(CollectiveWorkTest, IsUnknownWhereARankIsMissing) {
  step_.world_size = 3;
  EXPECT_THAT(found(), Each(0));
}

TEST_F(CollectiveWorkTest, IsUnknownWhereRanksCallOthers) {
  StepCollective& call = *other_.ops[collectives_[1]].collective;
  call.function = "reduce";
  EXPECT_THAT(found(), Each(0));
  call.function = "allreduce";
  call.communicator = 7;
  EXPECT_THAT(found(), Each(0));
  call = *step_.ops[collectives_[1]].collective;
  other_.ops.pop_back();
  EXPECT_THAT(found(), Each(0));
}

TEST(CollectiveWork, NeedsOneHost) {
  EXPECT_TRUE(all_ranks_on_one_host(synthetic_trace()));
  EXPECT_FALSE(all_ranks_on_one_host(synthetic_trace({}, [](TraceDb& trace) {
    trace.execute("UPDATE process SET host = 'another' WHERE rank = 1");
  })));
}

}  // namespace
}  // namespace preserve
