// SPDX-License-Identifier: Apache-2.0
// What is learnt of an apply.db, and what is refused.
#include "planner/measure/learned.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/output_file.h"
#include "db/replay_result.h"
#include "tests/planner/measure/scripted_world.h"
#include "tests/planner/tiny_step.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::fails_with;
using testing::HasSubstr;

class LearnedTest : public testing::Test {
 protected:
  LearnedTest() {
    step_.reader("sweep", 10'000'000, 1'000'000);
    step_.collective(10'000);
    step_.reader("gate", 100'000, 10'000);
    device_.methods[0].hit_read_bandwidth_bytes_per_s = 40e9;
    device_.methods.insert(device_.methods.begin(), device_.methods[0]);
    device_.methods[0].name = "another";
    options_.problem.method = device_.methods[1].name;
    result_.arms = {{.name = "baseline"}, {.name = "prefetch"}, {.name = "null"}};
    result_.arms[0].step_ns = Estimated{1'020'000};
    result_.arms[1].pairs = 50;
    result_.arms[1].speedup = Estimated{1.01, 1.005, 1.015};
    result_.fidelity = 1;
  }

  Schedule planned() {
    Schedule schedule = make_schedule(*step_, device_, options_).schedule;
    EXPECT_EQ(schedule.plan.verdict, PlanVerdict::prefetch);
    return schedule;
  }
  CorrectedDevice learn(const Schedule& schedule) {
    std::ofstream(file("schedule.json")) << to_json(schedule);
    const std::filesystem::path apply_db = file(fmt::format("apply-{}.db", ++files_));
    {
      TraceDb db = TraceDb::create(apply_db);
      db.set_meta("kind", kind_);
      db.set_meta("schedule_path", file("schedule.json").string());
      db.set_meta("schedule_sha256", sha256_of_file(file("schedule.json")));
      write_result(db, result_);
      db.finish();
    }
    if (changed_) std::ofstream(file("schedule.json"), std::ios::app) << "\n";
    return learn_from_program(*step_, device_, apply_db);
  }
  std::filesystem::path file(const std::string& name) const { return directory_.path() / name; }

  test::TinyStep step_;
  DeviceModel device_ = test::core_device(1 << 20);
  PlanOptions options_;
  ReplayResult result_;
  std::string kind_ = kApplied;
  bool changed_ = false;
  int files_ = 0;
  test::TemporaryDirectory directory_;
};

TEST_F(LearnedTest, AMethodThatDeliversHalfIsHalfAsFast) {
  const Schedule schedule = planned();
  result_.arms[1].issued_bytes = static_cast<double>(schedule.plan.windows[0].used_bytes) / 2;
  const CorrectedDevice corrected = learn(schedule);
  ASSERT_EQ(corrected.device.methods.size(), 2U);
  EXPECT_EQ(corrected.device.methods[0].name, "another") << "the order of the file stays";
  EXPECT_EQ(corrected.device.methods[0].bandwidth_bytes_per_s,
            device_.methods[0].bandwidth_bytes_per_s);
  EXPECT_LT(corrected.device.methods[1].bandwidth_bytes_per_s,
            device_.methods[1].bandwidth_bytes_per_s);
  EXPECT_THAT(corrected.changes, testing::Contains(HasSubstr("arrived in time")));
  EXPECT_EQ(corrected.device.slowdown_per_byte_ns, device_.slowdown_per_byte_ns);
}

TEST_F(LearnedTest, WindowsThatCostTimeAreCharged) {
  const Schedule schedule = planned();
  result_.arms[1].issued_bytes = static_cast<double>(schedule.plan.windows[0].used_bytes);
  result_.arms[2].pairs = 50;
  result_.arms[2].speedup = Estimated{0.998, 0.997, 0.999};
  EXPECT_NEAR(static_cast<double>(learn(schedule).device.window_cost_ns), 2044, 10);
}

TEST_F(LearnedTest, TooFewPairsTeachNothing) {
  const Schedule schedule = planned();
  result_.arms[1].pairs = 3;
  EXPECT_TRUE(learn(schedule).changes.empty());
}

TEST_F(LearnedTest, WhatIsNotWhatItWasIsRefused) {
  const Schedule schedule = planned();
  changed_ = true;
  EXPECT_THAT([&] { learn(schedule); }, fails_with("has changed"));
  changed_ = false;
  kind_ = kReplayed;
  EXPECT_THAT([&] { learn(schedule); }, fails_with("expected an apply.db"));
  kind_ = kApplied;
  step_.reader("more", 1000, 1000);
  EXPECT_THAT([&] { learn(schedule); }, fails_with("the same trace"));
}

}  // namespace
}  // namespace preserve
