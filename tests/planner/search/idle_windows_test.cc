// SPDX-License-Identifier: Apache-2.0
// Windows beside operators: used where the device says what they cost, else offered.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "common/units.h"
#include "planner/search/plan.h"
#include "planner/search/sensitivity.h"
#include "tests/planner/synthetic_step.h"
#include "tests/support/devices.h"

namespace preserve {
namespace {

using test::gpu_device;
using test::random_device;
using test::random_step;
using test::synthetic_step;
using testing::HasSubstr;

TEST(IdleWindows, OffersIdleWindowsBesideOperatorsOfUnknownSlowdown) {
  const PlanOptions idle{.problem = {.windows = WindowsMode::idle}};
  const PlanOptions collective{.problem = {.windows = WindowsMode::collective}};
  int said = 0, not_said = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const FoldedStep step = random_step(seed, 30);
    DeviceModel device = random_device(seed);
    device.kind = "gpu";
    const Schedule schedule = make_schedule(step, device, {}).schedule;
    const int64_t gained_ns = schedule.plan.prefetch_step_ns -
                              make_schedule(step, device, idle).schedule.plan.prefetch_step_ns;
    const bool worth = static_cast<double>(gained_ns) >=
                       1e-3 * static_cast<double>(schedule.plan.baseline_step_ns);
    const auto offered = [&](const PlanOptions& options) {
      Schedule more = schedule;
      offer_idle_windows(step, device, options, more);
      return more;
    };
    const Schedule more = offered({});
    EXPECT_EQ(to_json(more) == to_json(schedule), !worth) << "seed " << seed;
    ++(worth ? said : not_said);
    if (worth) {
      EXPECT_THAT(more.plan.reasons.back(),
                  testing::AllOf(HasSubstr("would gain " + format_duration(gained_ns)),
                                 HasSubstr("class product"), HasSubstr("preserve-calibrate"),
                                 HasSubstr("first candidate")));
      ASSERT_FALSE(more.candidates.empty());
      EXPECT_LE(more.candidates.size(), 2u);
      EXPECT_EQ(schedule.plan.prefetch_step_ns - more.candidates.front().prefetch_step_ns,
                gained_ns);
      EXPECT_THAT(more.candidates.front().reasons.front(), HasSubstr("with idle windows"));
      const PlanOptions one{.candidates = 1};
      EXPECT_THAT(offered(one).plan.reasons.back(), HasSubstr("--windows idle"));
      EXPECT_EQ(offered(one).candidates.size(), schedule.candidates.size());
    }
    EXPECT_EQ(to_json(make_schedule(step, device, collective).schedule), to_json(schedule));
    EXPECT_EQ(to_json(offered(idle)), to_json(schedule));
    EXPECT_EQ(to_json(offered(collective)), to_json(schedule));
    for (const OperatorClass of : kOperatorClasses) {
      device.methods[0].operator_slowdown_per_byte_ns[of] = 0;
    }
    EXPECT_EQ(to_json(offered({})), to_json(schedule));
    device.methods[0].operator_slowdown_per_byte_ns = {};
    device.kind = "cpu";  // prefetches end with their window
    EXPECT_EQ(to_json(offered({})), to_json(schedule));
  }
  EXPECT_GT(said, 0);
  EXPECT_GT(not_said, 0);
}

// What is known decides: dear bytes are not fetched beside operators, cheap ones are.
TEST(IdleWindows, AreUsedWhereTheDeviceSaysWhatTheyCost) {
  // Attention leaves the memory idle.
  const FoldedStep step = synthetic_step({.kv_bytes = 64 << 10, .op_latency_ns = 9'000});
  const auto plan = [&](double slowdown_ns) {
    DeviceModel device = gpu_device();
    for (const OperatorClass of : kOperatorClasses) {
      device.methods[0].operator_slowdown_per_byte_ns[of] = slowdown_ns;
    }
    return make_schedule(step, device, {}).schedule;
  };
  const auto at_operators = [&](const Schedule& schedule) {
    return std::count_if(schedule.plan.windows.begin(), schedule.plan.windows.end(),
                         [&](const PlannedWindow& window) {
                           const auto op = static_cast<size_t>(window.ordinal);
                           return window.used_bytes > 0 && step.ops[op].kind != OpKind::collective;
                         });
  };
  const Schedule unknown = make_schedule(step, gpu_device(), {}).schedule;
  EXPECT_EQ(unknown.windows_mode, "collective");
  EXPECT_EQ(at_operators(unknown), 0);
  const Schedule cheap = plan(0), dear = plan(0.1);
  EXPECT_EQ(cheap.windows_mode, "idle");
  EXPECT_GT(at_operators(cheap), 0);
  EXPECT_LT(cheap.plan.prefetch_step_ns, unknown.plan.prefetch_step_ns);
  EXPECT_EQ(at_operators(dear), 0);
}

}  // namespace
}  // namespace preserve
