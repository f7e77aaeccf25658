// SPDX-License-Identifier: Apache-2.0
// What a plan does after one repetition, as the search sees it, against many from the recorded
// step.
#include <gtest/gtest.h>

#include "planner/referee/simulator.h"
#include "tests/planner/tiny_step.h"

namespace preserve {
namespace {

using test::kSavedPerByteNs;
using test::prefetch;
using test::tiny_device;
using test::TinyStep;

// Reader and collective, whose window fetches for the next step.
struct ForNextStep {
  ForNextStep() {
    for (const char* name : {"gemm", "other"}) step.reader(name, 200'000, 21'000);
    window = step.collective(10'000);
  }

  PrefetchOrders fetch(Referee& referee, int32_t consumer, int64_t bytes) const {
    Plan plan;
    prefetch(plan, *step, window, consumer, bytes);
    return referee.orders_of(plan);
  }

  TinyStep step;
  int32_t window = 0;
  DeviceModel device = tiny_device(150'000);
};

// One repetition after other orders must show what many from the recorded step on show.
TEST(Referee, AGlanceTakesWhatIsFetchedForTheNextStepToHaveArrived) {
  ForNextStep c;
  Referee referee(*c.step, c.device, {}), other(*c.step, c.device, {});
  const auto expect_same = [&](const PrefetchOrders& orders) {
    const Referee::Steady seen = referee.glance(orders, false);
    const Referee::Steady found = other.run(orders);
    EXPECT_NEAR(seen.step_ns, found.step_ns, 1e-6);
    EXPECT_EQ(seen.last->arrived_bytes, found.last->arrived_bytes);
    for (size_t op = 0; op < found.last->ops.size(); ++op) {
      EXPECT_NEAR(seen.last->ops[op].hit_bytes, found.last->ops[op].hit_bytes, 1e-6) << op;
    }
  };
  const PrefetchOrders none;
  const PrefetchOrders few = c.fetch(referee, 0, 40'000), more = c.fetch(referee, 0, 80'000);
  const PrefetchOrders for_other = c.fetch(referee, 1, 80'000);
  EXPECT_NEAR(referee.run(few).step_ns, 52'000 - 40'000 * kSavedPerByteNs, 1e-6);
  expect_same(more);       // more of the same
  expect_same(for_other);  // what is fetched no more is not found
  expect_same(none);
  expect_same(few);  // although nothing has been fetched before
}

// Also how old it is by then, and that what waits ages faster than what was read.
TEST(Referee, AGlanceAgesWhatWaitsAsManyRepetitionsDo) {
  ForNextStep c;
  c.device.survival = {{50'000, 1}, {350'000, 0}};
  ASSERT_GT(waiting_age(c.device), 1);
  Referee referee(*c.step, c.device, {}), other(*c.step, c.device, {});
  referee.run(c.fetch(referee, 0, 40'000));
  for (const int64_t bytes : {80'000, 20'000}) {
    for (const int32_t consumer : {0, 1}) {
      const PrefetchOrders orders = c.fetch(referee, consumer, bytes);
      EXPECT_NEAR(referee.glance(orders, false).step_ns, other.run(orders).step_ns, 1e-6)
          << bytes << " bytes for " << consumer;
    }
  }
}

TEST(Referee, AGlanceAgesEachOfSeveralByItself) {
  ForNextStep c;
  c.device.survival = {{50'000, 1}, {350'000, 0}};
  Referee referee(*c.step, c.device, {}), other(*c.step, c.device, {});
  referee.run(c.fetch(referee, 0, 40'000));
  Plan plan;
  prefetch(plan, *c.step, c.window, 0, 60'000);
  prefetch(plan, *c.step, c.window, 1, 30'000);
  const PrefetchOrders orders = referee.orders_of(plan);
  EXPECT_NEAR(referee.glance(orders, false).step_ns, other.run(orders).step_ns, 1e-6);
}

TEST(Referee, AGlanceRunsARepetitionFirstWherePrefetchingEndsWithItsWindow) {
  ForNextStep c;
  c.device.kind = "cpu";
  Referee referee(*c.step, c.device, {});
  const PrefetchOrders few = c.fetch(referee, 0, 40'000), more = c.fetch(referee, 0, 150'000);
  referee.run(few);
  // 99'000 arrive before the window closes; not all that is asked for.
  EXPECT_NEAR(referee.glance(more, false).step_ns, 52'000 - 99'000 * kSavedPerByteNs, 0.1);
}

}  // namespace
}  // namespace preserve
