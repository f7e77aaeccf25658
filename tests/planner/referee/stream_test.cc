// SPDX-License-Identifier: Apache-2.0
// The stream of prefetches: where it does not read the memory at its full rate, and what it fetches
// beside operators that read.
#include <gtest/gtest.h>

#include "planner/referee/simulator.h"
#include "tests/planner/tiny_step.h"

namespace preserve {
namespace {

using test::prefetch;
using test::tiny_device;
using test::TinyStep;

// The first prefetch asks for what "again" has just read: 100'000 / 40 = 2'500 ns of the window.
TEST(Simulator, WhatIsCachedIsReadThere) {
  TinyStep step;
  const int32_t window = step.collective(10'000);
  const int32_t cached = step.reader("cached", 100'000, 2'500);
  const int32_t consumer = step.reader("gemm", 200'000, 20'000);
  DeviceModel device = tiny_device(1'000'000);
  device.kind = "cpu";
  device.survival = {{150'000, 1}, {200'001, 0}};
  step.read(step.add(OpKind::compute, "again", 2'500), step->ops[1].accesses[0].tensor);
  Plan plan;
  prefetch(plan, *step, window, cached, 100'000);
  prefetch(plan, *step, window, consumer, 100'000);
  const SimulationResult result = simulate(*step, device, plan);
  ASSERT_EQ(result.prefetches.size(), 2u);
  EXPECT_NEAR(result.redundant_bytes, 100'000, 1);
  EXPECT_NEAR(result.prefetches[1].arrived_bytes, (10'000 - 100 - 2'500) * 10, 1);
}

// A stream that outlasts its window rests while an operator of unknown bytes runs: 99'000 bytes
// arrive in the collective, none in the next 5'000 ns, 30'000 in the last 3'000.
TEST(Simulator, NothingArrivesBesideUnknownTraffic) {
  TinyStep step;
  const int32_t window = step.collective(10'000);
  step.add(OpKind::compute, "unknown", 5'000);
  step.reader("small", 4'096, 3'000);
  const int32_t consumer = step.reader("gemm", 200'000, 21'000);
  step.add(OpKind::compute, "unknown", 5'000);
  Plan plan;
  prefetch(plan, *step, window, consumer, 190'000);
  const SimulationResult result = simulate(*step, tiny_device(195'000), plan);
  EXPECT_NEAR(result.prefetches[0].arrived_bytes, 99'000 + 30'000, 1);
}

TEST(Simulator, WhatIsReadWhileOthersArriveIsYoungerThanThey) {
  TinyStep step;
  const int32_t window = step.collective(10'000);
  const int32_t first = step.reader("first", 90'000, 9'000);
  step.reader("between", 40'000, 4'000);
  const int32_t second = step.reader("second", 50'000, 5'000);
  Plan plan;
  prefetch(plan, *step, window, first, 90'000);
  prefetch(plan, *step, first, second, 20'000);
  // 20'000 + 40'000 bytes pass until they are read, and the 90'000 that are read as they arrive.
  for (const int64_t cache_bytes : {160'000, 140'000}) {
    const SimulationResult result = simulate(*step, tiny_device(cache_bytes), plan);
    EXPECT_NEAR(result.prefetches[0].hit_bytes, 90'000, 1);
    EXPECT_NEAR(result.prefetches[1].arrived_bytes, 20'000, 1);
    EXPECT_NEAR(result.prefetches[1].hit_bytes, cache_bytes > 150'000 ? 20'000 : 0, 1);
  }
}

}  // namespace
}  // namespace preserve
