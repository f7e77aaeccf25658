// SPDX-License-Identifier: Apache-2.0
// The stream of prefetches: where it does not read the memory at its full rate, and what it fetches
// beside operators that read.
#include <gtest/gtest.h>

#include "tests/planner/referee/simulated.h"

namespace preserve {
namespace {

using test::Simulated;

// The first prefetch asks for what "again" has just read: 100'000 / 40 = 2'500 ns of the window.
TEST(Simulator, WhatIsCachedIsReadThere) {
  Simulated c(1'000'000);
  const int32_t window = c.collective(10'000);
  const int32_t cached = c.reader("cached", 100'000, 2'500);
  const int32_t consumer = c.reader("gemm", 200'000, 20'000);
  c.device.kind = "cpu";
  c.device.survival = {{150'000, 1}, {200'001, 0}};
  c.read(c.add(OpKind::compute, "again", 2'500), c->ops[1].accesses[0].tensor);
  c.prefetch(window, cached, 100'000);
  c.prefetch(window, consumer, 100'000);
  const SimulationResult result = c.run();
  ASSERT_EQ(result.prefetches.size(), 2u);
  EXPECT_NEAR(result.redundant_bytes, 100'000, 1);
  EXPECT_NEAR(result.prefetches[1].arrived_bytes, (10'000 - 100 - 2'500) * 10, 1);
}

// A stream that outlasts its window rests while an operator of unknown bytes runs: 99'000 bytes
// arrive in the collective, none in the next 5'000 ns, 30'000 in the last 3'000.
TEST(Simulator, NothingArrivesBesideUnknownTraffic) {
  Simulated c(195'000);
  const int32_t window = c.collective(10'000);
  c.add(OpKind::compute, "unknown", 5'000);
  c.reader("small", 4'096, 3'000);
  const int32_t consumer = c.reader("gemm", 200'000, 21'000);
  c.add(OpKind::compute, "unknown", 5'000);
  c.prefetch(window, consumer, 190'000);
  EXPECT_NEAR(c.run().prefetches[0].arrived_bytes, 99'000 + 30'000, 1);
}

TEST(Simulator, WhatIsReadWhileOthersArriveIsYoungerThanThey) {
  // 20'000 + 40'000 bytes pass until they are read, and the 90'000 that are read as they arrive.
  for (const int64_t cache_bytes : {160'000, 140'000}) {
    Simulated c(cache_bytes);
    const int32_t window = c.collective(10'000);
    const int32_t first = c.reader("first", 90'000, 9'000);
    c.reader("between", 40'000, 4'000);
    const int32_t second = c.reader("second", 50'000, 5'000);
    c.prefetch(window, first, 90'000);
    c.prefetch(first, second, 20'000);
    const SimulationResult result = c.run();
    EXPECT_NEAR(result.prefetches[0].hit_bytes, 90'000, 1);
    EXPECT_NEAR(result.prefetches[1].arrived_bytes, 20'000, 1);
    EXPECT_NEAR(result.prefetches[1].hit_bytes, cache_bytes > 150'000 ? 20'000 : 0, 1);
  }
}

}  // namespace
}  // namespace preserve
