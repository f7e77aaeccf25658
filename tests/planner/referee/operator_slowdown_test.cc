// SPDX-License-Identifier: Apache-2.0
// Operators that are slowed by what is prefetched beside them, by class.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "common/error.h"
#include "planner/referee/simulator.h"
#include "tests/planner/tiny_step.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

using test::kSavedPerByteNs;
using test::prefetch;
using test::tiny_device;
using test::TinyStep;
using testing::HasSubstr;

// 5'400 of 48'000 bytes arrive during the collective, at 6 bytes/ns; the others beside "between".
struct BesideSmall {
  TinyStep step;
  int32_t window = step.collective(1'000);
  int32_t between = step.reader("between", 40'000, 10'000);  // 4 of 10 bytes/ns
  int32_t consumer = step.reader("gemm", 200'000, 20'000);
  DeviceModel device = tiny_device(150'000);
  Plan plan;
  BesideSmall() {
    device.methods[0].bandwidth_bytes_per_s = 6e9;
    prefetch(plan, *step, window, consumer, 48'000);
  }
};

TEST(OperatorSlowdowns, TrafficLengthensTheOperatorsOfAClass) {
  BesideSmall c;
  OperatorSlowdowns& slowdowns = c.device.methods[0].operator_slowdown_per_byte_ns;
  slowdowns[OperatorClass::product] = 0.3;
  slowdowns[OperatorClass::attention] = 0.3;
  EXPECT_NEAR(simulate(*c.step, c.device, c.plan).ops[1].dur_ns, 10'000, 1e-3);
  slowdowns[OperatorClass::small] = 0.05;
  const SimulationResult result = simulate(*c.step, c.device, c.plan);
  EXPECT_NEAR(result.ops[1].dur_ns, 10'000 + 42'600 * 0.05, 1e-3);
  EXPECT_NEAR(result.ops[2].dur_ns, 20'000 - 48'000 * kSavedPerByteNs, 1e-3);
  EXPECT_NEAR(result.collective_slowdown_ns, 0, 1e-6);
  // More than the bytes take: it still ends.
  slowdowns[OperatorClass::small] = 0.5;
  EXPECT_NEAR(simulate(*c.step, c.device, c.plan).ops[1].dur_ns, 10'000 + 42'600 * 0.5, 1e-3);
  // Another class: by what it reads.
  c.step->tensors[0].role = TensorRole::kv;
  EXPECT_NEAR(simulate(*c.step, c.device, c.plan).ops[1].dur_ns, 10'000 + 42'600 * 0.3, 1e-3);
  c.step->tensors[0].role = TensorRole::weight;
  c.step->ops[1].gemm = StepGemm{1, 100, 200, "fp16"};
  EXPECT_NEAR(simulate(*c.step, c.device, c.plan).ops[1].dur_ns, 10'000 + 42'600 * 0.3, 1e-3);
}

TEST(OperatorSlowdowns, SharingTheMemoryAndBeingSlowedAdd) {
  TinyStep step;
  const int32_t window = step.collective(10'000);
  step.reader("between", 100'000, 10'000);
  const int32_t consumer = step.reader("gemm", 200'000, 20'000);
  step.reader("after", 100'000, 10'000);
  Plan plan;
  prefetch(plan, *step, window, consumer, 140'000);
  DeviceModel device = tiny_device(250'000);
  device.methods[0].operator_slowdown_per_byte_ns[OperatorClass::product] = 0.02;
  // 14'100 without it (above); 41'000 bytes move beside it.
  EXPECT_NEAR(simulate(*step, device, plan).ops[1].dur_ns, 14'100 + 41'000 * 0.02, 1e-3);
}

TEST(OperatorSlowdowns, AnOperatorThatHitsIsSlowedToo) {
  TinyStep step;
  const int32_t window = step.collective(10'000);
  const int32_t first = step.reader("norm", 40'000, 21'000);
  const int32_t second = step.reader("gemm", 200'000, 21'000);
  Plan plan;
  prefetch(plan, *step, window, first, 40'000);
  prefetch(plan, *step, window, second, 100'000);  // of which 59'000 are there at 10 us
  DeviceModel device = tiny_device(160'000);
  device.methods[0].operator_slowdown_per_byte_ns[OperatorClass::small] = 0.05;
  const SimulationResult result = simulate(*step, device, plan);
  EXPECT_NEAR(result.ops[1].dur_ns, 21'000 - 40'000 * kSavedPerByteNs + 41'000 * 0.05, 1e-3);
  EXPECT_NEAR(result.ops[2].dur_ns, 21'000 - 100'000 * kSavedPerByteNs, 1e-3);
}

TEST(OperatorSlowdowns, ImpossibleSlowdownsAreRefused) {
  BesideSmall c;
  for (const double ns :
       {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    c.device.methods[0].operator_slowdown_per_byte_ns[OperatorClass::attention] = ns;
    EXPECT_THAT([&] { simulate(*c.step, c.device, c.plan); },
                test::fails_with(ErrorKind::input, HasSubstr("attention operators")));
  }
}

}  // namespace
}  // namespace preserve
