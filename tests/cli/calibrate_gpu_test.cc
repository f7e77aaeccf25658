// SPDX-License-Identifier: Apache-2.0
// preserve-calibrate --device cuda:0 as it is, but for CUDA: a simulated GPU stands in for that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "planner/schedule/device.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

const std::string kPublished = PRESERVE_SOURCE_DIR "/examples/devices/h100-sxm.json";

class CalibrateGpu : public testing::Test {
 protected:
  test::Run calibrate(const std::string& matter, std::vector<std::string> more,
                      const std::string& device = "cuda:0") {
    more.insert(more.begin(),
                {PRESERVE_CALIBRATE, "--device", device, "--quick", "--color", "never"});
    return test::run_program(more, {"PRESERVE_FAKE_GPU=" + matter, "PATH=/nonexistent"},
                             directory_.path());
  }
  test::TemporaryDirectory directory_;
};

TEST_F(CalibrateGpu, WritesAndSaysWhatItFound) {
  const test::Run run =
      succeeded(calibrate("busy", {"--published", kPublished, "-o", "device.json"}));
  EXPECT_THAT(run.out, AllOf(HasSubstr("Simulated GPU"), HasSubstr("best prefetch"),
                             HasSubstr("48.0 KiB of 64.0 KiB")));
  EXPECT_THAT(run.err, AllOf(HasSubstr("other processes compute on the GPU (pid 4711)"),
                             HasSubstr("next: preserve-profile"),
                             testing::Not(HasSubstr("arithmetic rates and collectives"))));
  const DeviceModel device = load_device(directory_ / "device.json");
  EXPECT_EQ(device.kind, "gpu");
  EXPECT_EQ(device.source, "measured");
  EXPECT_GT(device.flops_fp16_per_s, 0);
  EXPECT_FALSE(device.collectives.empty());
  ASSERT_FALSE(device.methods.empty());
  EXPECT_GT(device.methods.front().ctas, 0);
  EXPECT_EQ(device.multiprocessors, 4);
  EXPECT_GT(device.measurements.size(), 100u);
  EXPECT_THAT(device.notes, Contains(HasSubstr("pid 4711")));
  EXPECT_THAT(device.notes, Contains(HasSubstr("h100-sxm.json")));
}

TEST_F(CalibrateGpu, StandardOutputIsTheFileAlone) {
  const test::Run run = succeeded(calibrate("throttled", {"-o", "-"}));
  EXPECT_EQ(run.out.substr(0, 1), "{");
  EXPECT_EQ(run.out.substr(run.out.size() - 2), "}\n");
  EXPECT_THAT(run.err, AllOf(HasSubstr("best prefetch"), HasSubstr("power cap"),
                             HasSubstr("arithmetic rates and collectives are not in the file")));
}

TEST_F(CalibrateGpu, WhatCannotBeMeasuredLeavesNothing) {
  for (const auto& [matter, said] : {std::pair{"mig", "MIG"}, {"full", "1.0 MiB are free"}}) {
    EXPECT_THAT(calibrate(matter, {"-o", "device.json"}), test::exits(2, HasSubstr(said)));
  }
  EXPECT_THAT(calibrate("", {"-o", "device.json"}, "cuda:1"), test::exits(2, HasSubstr("cuda:1")));
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
}

}  // namespace
}  // namespace preserve
