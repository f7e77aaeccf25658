// SPDX-License-Identifier: Apache-2.0
// Corrections of the device model: toward the truth, and never far at once. And the ways of issuing
// that are tried.
#include "planner/measure/correction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "planner/measure/issue_variants.h"
#include "planner/problem/read_gain.h"
#include "tests/planner/measure/scripted_world.h"
#include "tests/planner/tiny_step.h"

namespace preserve {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// A collective of 10 us that fetches for one operator of 100 KB, memory at 10 bytes/ns, after one
// that sweeps the cache.
class CorrectionTest : public testing::Test {
 protected:
  CorrectionTest() {
    step_.reader("sweep", 10'000'000, 1'000'000);
    window_ = step_.collective(10'000);
    reader_ = step_.reader("gate", 100'000, 10'000);
    device_.methods[0].hit_read_bandwidth_bytes_per_s = 40e9;
  }

  MeasuredPlan planned(int64_t bytes) {
    MeasuredPlan measured;
    test::prefetch(measured.plan, *step_, window_, reader_, bytes);
    PlannedWindow& window = measured.plan.windows[0];
    window.used_bytes = bytes;
    window.capacity_bytes = 99'000;
    window.binds = "candidates";
    measured.planned_bandwidth_bytes_per_s = 10e9;
    measured.issue = issue_method(device_.methods[0]);
    measured.found.speedup = {{1.1, 1.2, 1.3}, 50};
    measured.found.issued_bytes = static_cast<double>(bytes);
    measured.found.saved_ns = test::kSavedPerByteNs * static_cast<double>(bytes);
    return measured;
  }

  CorrectedDevice correct(const MeasuredPlan& measured) {
    const MeasuredPlan* plans[] = {&measured};
    return correct_device(*step_, device_, plans);
  }

  test::TinyStep step_;
  DeviceModel device_ = test::core_device(1 << 20);
  int32_t window_ = 0, reader_ = 0;
};

TEST_F(CorrectionTest, WhatWasForetoldChangesNothing) {
  const CorrectedDevice corrected = correct(planned(50'000));
  EXPECT_THAT(corrected.changes, IsEmpty());
  EXPECT_EQ(to_json(corrected.device), to_json(device_));
}

TEST_F(CorrectionTest, HalfTheSavingIsHalfTheGainPerByte) {
  MeasuredPlan measured = planned(50'000);
  measured.found.saved_ns /= 2;
  const CorrectedDevice corrected = correct(measured);
  // 1/10 - 1/H = 0.075 / 2
  EXPECT_NEAR(corrected.device.methods[0].hit_read_bandwidth_bytes_per_s, 16e9, 1e6);
  EXPECT_THAT(corrected.changes, ElementsAre(AllOf(HasSubstr("reading what bulk fetched"),
                                                   HasSubstr("16.0 GB/s instead of 40.0 GB/s"))));
}

// On a busy machine all takes longer, and what is saved with it.
TEST_F(CorrectionTest, ASlowReplayIsNoBetterCache) {
  MeasuredPlan measured = planned(50'000);
  measured.found.consumers_ns = 1.5 * 10'000;
  measured.found.saved_ns *= 1.5;
  EXPECT_THAT(correct(measured).changes, IsEmpty());
}

TEST_F(CorrectionTest, WindowsThatEndEarlySlowTheMethodDown) {
  MeasuredPlan measured = planned(90'000);
  measured.found.issued_bytes = 49'500;  // half of what the window could hold
  measured.found.saved_ns = test::kSavedPerByteNs * 49'500;
  const CorrectedDevice corrected = correct(measured);
  EXPECT_NEAR(corrected.device.methods[0].bandwidth_bytes_per_s, 5e9, 1e6);
  EXPECT_NEAR(corrected.device.methods[0].hit_read_bandwidth_bytes_per_s, 40e9, 1e6);
  EXPECT_THAT(corrected.changes, ElementsAre(HasSubstr("55.0 % of the planned bytes arrived")));
}

TEST_F(CorrectionTest, AFullWindowThatLostNothingIsTriedFuller) {
  device_.methods[0].bandwidth_bytes_per_s = 6e9;
  MeasuredPlan measured = planned(50'000);
  measured.planned_bandwidth_bytes_per_s = 6e9;
  measured.plan.windows[0].binds = "window";
  EXPECT_NEAR(correct(measured).device.methods[0].bandwidth_bytes_per_s, 7.5e9, 1);
  measured.planned_bandwidth_bytes_per_s = device_.methods[0].bandwidth_bytes_per_s = 9.5e9;
  EXPECT_NEAR(correct(measured).device.methods[0].bandwidth_bytes_per_s, 10e9, 1)
      << "never above the memory's rate";
  device_.kind = "gpu";  // outlasts its window: all bytes count as issued
  EXPECT_THAT(correct(measured).changes, IsEmpty());
}

TEST_F(CorrectionTest, SlowerCollectivesCostMorePerByte) {
  MeasuredPlan measured = planned(50'000);
  measured.found.collectives_added_ns = 1000;
  EXPECT_NEAR(correct(measured).device.slowdown_per_byte_ns, 0.02, 1e-9);
  device_.slowdown_per_byte_ns = 0.02;
  measured.found.collectives_added_ns = -500;
  EXPECT_EQ(correct(measured).device.slowdown_per_byte_ns, 0);
}

TEST_F(CorrectionTest, WhatEmptyWindowsCostIsTheirsAndNotTheBytes) {
  MeasuredPlan measured = planned(50'000);
  measured.found.collectives_added_ns = 1000;
  measured.found.window_cost_ns = Interval{300, 400, 500};
  CorrectedDevice corrected = correct(measured);
  EXPECT_EQ(corrected.device.window_cost_ns, 400);
  EXPECT_NEAR(corrected.device.slowdown_per_byte_ns, 600 / 50e3, 1e-9);
  EXPECT_THAT(corrected.changes, Contains(HasSubstr("cost of a window: 400 ns instead of 0 ns")));
  device_ = corrected.device;
  EXPECT_THAT(correct(measured).changes, IsEmpty());
}

TEST_F(CorrectionTest, WindowsThatMayCostWhatWasThoughtTeachNothing) {
  MeasuredPlan measured = planned(50'000);
  measured.found.window_cost_ns = Interval{-200, 300, 800};
  EXPECT_THAT(correct(measured).changes, IsEmpty());
  device_.window_cost_ns = 5000;
  EXPECT_EQ(correct(measured).device.window_cost_ns, 300);
  measured.found.window_cost_ns = Interval{-900, -600, -300};
  EXPECT_EQ(correct(measured).device.window_cost_ns, 0);
}

TEST_F(CorrectionTest, OnePlanOfThreeCannotMislead) {
  MeasuredPlan good = planned(50'000), odd = planned(50'000);
  odd.found.saved_ns = -1e9;
  odd.found.collectives_added_ns = 1e9;
  const MeasuredPlan* plans[] = {&good, &odd, &good};
  EXPECT_THAT(correct_device(*step_, device_, plans).changes, IsEmpty());
}

TEST_F(CorrectionTest, TooFewPairsTeachNothing) {
  MeasuredPlan measured = planned(50'000);
  measured.found.saved_ns = 0;
  measured.found.speedup.pairs = kFewestPairs - 1;
  EXPECT_THAT(correct(measured).changes, IsEmpty());
}

double saved_per_byte(const DeviceModel& device) {
  return 1e9 / device.memory_bandwidth_bytes_per_s -
         1e9 / hot_read_rate(device, &device.methods[0]);
}

RC_GTEST_FIXTURE_PROP(CorrectionTest, AreBoundedWhateverWasMeasured, ()) {
  MeasuredPlan measured = planned(90'000);
  const auto any = [] { return *rc::gen::inRange<int64_t>(-(1LL << 40), 1LL << 40) / 3.0; };
  measured.found.issued_bytes = std::max(0.0, any());
  measured.found.saved_ns = any();
  measured.found.collectives_added_ns = any();
  measured.found.window_cost_ns = Interval{any(), any(), any()};
  measured.plan.windows[0].binds = *rc::gen::element<std::string>("window", "cache");
  const CorrectedDevice corrected = correct(measured);
  const PrefetchMethod& method = corrected.device.methods[0];
  const double slack = 1 + 1e-9;
  RC_ASSERT(method.bandwidth_bytes_per_s * kMostCorrection * slack >=
            device_.methods[0].bandwidth_bytes_per_s);
  RC_ASSERT(method.bandwidth_bytes_per_s <= kMostCorrection * 10e9);
  RC_ASSERT(saved_per_byte(corrected.device) * kMostCorrection * slack >= saved_per_byte(device_));
  RC_ASSERT(saved_per_byte(corrected.device) <= kMostCorrection * saved_per_byte(device_) * slack);
  RC_ASSERT(method.hit_read_bandwidth_bytes_per_s <= 64 * 10e9 * slack);
  RC_ASSERT(corrected.device.slowdown_per_byte_ns >= 0);
  RC_ASSERT(corrected.device.slowdown_per_byte_ns * method.bandwidth_bytes_per_s / 1e9 <=
            0.9 * slack);
}

// A machine that differs from the device file in one number: the correction closes most of the gap.
RC_GTEST_FIXTURE_PROP(CorrectionTest, GoTowardTheTruth, ()) {
  test::World world{.step = &*step_, .truth = device_};
  const double truth = *rc::gen::inRange(150, 800) / 10.0 * 1e9;
  world.truth.methods[0].hit_read_bandwidth_bytes_per_s = truth;
  MeasuredPlan measured = planned(80'000);
  Schedule schedule;
  schedule.method = measured.issue;
  measured.found = world.find(schedule, measured.plan);
  const CorrectedDevice corrected = correct(measured);
  const double gap_before = std::fabs(saved_per_byte(device_) - saved_per_byte(world.truth));
  const double gap_after =
      std::fabs(saved_per_byte(corrected.device) - saved_per_byte(world.truth));
  RC_ASSERT(gap_after <= 0.2 * gap_before + 0.02 * saved_per_byte(world.truth) + 1e-9);
}

const IssueMethod kGpuMethod{"bulk_l2", "spare", 16384, 16, "normal", "after"};

TEST(IssueVariants, OfAGpuPlan) {
  DeviceModel device = test::tiny_device(1 << 20);
  device.methods[0] = {.name = "bulk_l2",
                       .placement = "spare",
                       .bandwidth_bytes_per_s = 1e12,
                       .chunk_bytes = 16384,
                       .ctas = 16};
  for (int i = 0; i < 5; ++i) {
    PrefetchMethod other = device.methods[0];
    other.name = "other" + std::to_string(i);
    device.methods.push_back(other);
  }
  const std::vector<IssueVariant> variants = issue_variants(device, kGpuMethod);
  EXPECT_THAT(variants, SizeIs(kMostVariants));
  std::vector<std::string> described;
  for (const IssueVariant& variant : variants) {
    EXPECT_NE(variant.method, kGpuMethod);
    EXPECT_FALSE(variant.why.empty());
    described.push_back(describe(variant.method));
  }
  std::sort(described.begin(), described.end());
  EXPECT_EQ(std::adjacent_find(described.begin(), described.end()), described.end());
  for (const char* what : {"8 thread blocks", "32 thread blocks", "4.0 KiB", "64.0 KiB",
                           "evicted last", "before the collective", "other2"}) {
    EXPECT_THAT(described, testing::Contains(HasSubstr(what)));
  }
}

TEST(IssueVariants, HaveNoMoreBlocksThanTheGpuHasMultiprocessors) {
  DeviceModel device = test::tiny_device(1 << 20);
  const IssueMethod base{"bulk_l2", "spare", 4096, 16, "normal", "after"};
  const auto most_blocks = [&](int64_t multiprocessors) {
    device.multiprocessors = multiprocessors;
    int64_t most = 0;
    for (const IssueVariant& variant : issue_variants(device, base)) {
      most = std::max(most, variant.method.ctas);
    }
    return most;
  };
  EXPECT_EQ(most_blocks(20), 16) << "the executor refuses 32, and with them the whole replay";
  EXPECT_EQ(most_blocks(32), 32);
  EXPECT_EQ(most_blocks(0), 32) << "not stated";
}

TEST(IssueVariants, AtTheirLimitsAreNotTheSameAgain) {
  DeviceModel device = test::tiny_device(1 << 20);
  IssueMethod base{"bulk", "spare", 128, 1, "last", "before"};
  for (const IssueVariant& variant : issue_variants(device, base)) {
    EXPECT_NE(variant.method, base) << variant.why;
    EXPECT_GE(variant.method.chunk_bytes, 128);
    EXPECT_GE(variant.method.ctas, 1);
  }
}

TEST(IssueVariants, OfACpuPlanAreOtherMethods) {
  DeviceModel device = test::core_device(1 << 20);
  PrefetchMethod spare = device.methods[0];
  spare.placement = "spare";
  device.methods.push_back(spare);
  std::vector<IssueVariant> variants = issue_variants(device, issue_method(device.methods[0]));
  ASSERT_THAT(variants, SizeIs(1));
  EXPECT_EQ(variants[0].method.placement, "spare");
  variants = issue_variants(device, issue_method(spare));
  ASSERT_THAT(variants, SizeIs(2));
  EXPECT_EQ(variants[1].method.issue, "before");
}

}  // namespace
}  // namespace preserve
