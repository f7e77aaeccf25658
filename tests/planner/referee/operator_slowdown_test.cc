// SPDX-License-Identifier: Apache-2.0
// Operators that are slowed by what is prefetched beside them, by class.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "common/error.h"
#include "tests/planner/referee/simulated.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

using test::kSavedPerByteNs;
using test::Simulated;
using testing::HasSubstr;

// 5'400 of 48'000 bytes arrive during the collective, at 6 bytes/ns; the others beside "between".
struct BesideSmall : Simulated {
  BesideSmall() : Simulated(150'000) {
    const int32_t window = collective(1'000);
    reader("between", 40'000, 10'000);  // 4 of 10 bytes/ns
    device.methods[0].bandwidth_bytes_per_s = 6e9;
    prefetch(window, reader("gemm", 200'000, 20'000), 48'000);
  }
};

TEST(OperatorSlowdowns, TrafficLengthensTheOperatorsOfAClass) {
  BesideSmall c;
  OperatorSlowdowns& slowdowns = c.device.methods[0].operator_slowdown_per_byte_ns;
  slowdowns[OperatorClass::product] = 0.3;
  slowdowns[OperatorClass::attention] = 0.3;
  EXPECT_NEAR(c.run().ops[1].dur_ns, 10'000, 1e-3);
  slowdowns[OperatorClass::small] = 0.05;
  const SimulationResult result = c.run();
  EXPECT_NEAR(result.ops[1].dur_ns, 10'000 + 42'600 * 0.05, 1e-3);
  EXPECT_NEAR(result.ops[2].dur_ns, 20'000 - 48'000 * kSavedPerByteNs, 1e-3);
  EXPECT_NEAR(result.collective_slowdown_ns, 0, 1e-6);
  // More than the bytes take: it still ends.
  slowdowns[OperatorClass::small] = 0.5;
  EXPECT_NEAR(c.run().ops[1].dur_ns, 10'000 + 42'600 * 0.5, 1e-3);
  // Another class: by what it reads.
  c->tensors[0].role = TensorRole::kv;
  EXPECT_NEAR(c.run().ops[1].dur_ns, 10'000 + 42'600 * 0.3, 1e-3);
  c->tensors[0].role = TensorRole::weight;
  c->ops[1].gemm = StepGemm{1, 100, 200, "fp16"};
  EXPECT_NEAR(c.run().ops[1].dur_ns, 10'000 + 42'600 * 0.3, 1e-3);
}

TEST(OperatorSlowdowns, SharingTheMemoryAndBeingSlowedAdd) {
  test::WithBetween c(250'000);
  c.reader("after", 100'000, 10'000);
  c.prefetch(c.window, c.consumer, 140'000);
  c.device.methods[0].operator_slowdown_per_byte_ns[OperatorClass::product] = 0.02;
  // 14'100 without it (above); 41'000 bytes move beside it.
  EXPECT_NEAR(c.run().ops[1].dur_ns, 14'100 + 41'000 * 0.02, 1e-3);
}

TEST(OperatorSlowdowns, AnOperatorThatHitsIsSlowedToo) {
  Simulated c(160'000);
  const int32_t window = c.collective(10'000);
  const int32_t first = c.reader("norm", 40'000, 21'000);
  const int32_t second = c.reader("gemm", 200'000, 21'000);
  c.prefetch(window, first, 40'000);
  c.prefetch(window, second, 100'000);  // of which 59'000 are there at 10 us
  c.device.methods[0].operator_slowdown_per_byte_ns[OperatorClass::small] = 0.05;
  const SimulationResult result = c.run();
  EXPECT_NEAR(result.ops[1].dur_ns, 21'000 - 40'000 * kSavedPerByteNs + 41'000 * 0.05, 1e-3);
  EXPECT_NEAR(result.ops[2].dur_ns, 21'000 - 100'000 * kSavedPerByteNs, 1e-3);
}

TEST(OperatorSlowdowns, ImpossibleSlowdownsAreRefused) {
  BesideSmall c;
  for (const double ns :
       {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    c.device.methods[0].operator_slowdown_per_byte_ns[OperatorClass::attention] = ns;
    EXPECT_THAT([&] { c.run(); },
                test::fails_with(ErrorKind::input, HasSubstr("attention operators")));
  }
}

}  // namespace
}  // namespace preserve
