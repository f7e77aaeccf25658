// SPDX-License-Identifier: Apache-2.0
// device.json of a calibrated GPU: read back, planned with, completed from a published one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/error.h"
#include "common/output_file.h"
#include "tests/replay/gpu/small_gpu.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

using namespace test;
using testing::HasSubstr;

class GpuDeviceFile : public testing::Test {
 protected:
  void write(const DeviceModel& device) {
    std::ofstream(directory_ / "device.json") << to_json(device);
  }
  test::Run tune(std::vector<std::string> more) {
    more.insert(more.begin(),
                {PRESERVE_BIN_DIR "/preserve-tune", "--model",
                 PRESERVE_SOURCE_DIR "/examples/models/stories42m.json", "--tp", "2", "--device",
                 "device.json", "--allreduce-time", "20us", "-o", "schedule.json"});
    return test::run_program(more, {}, directory_.path());
  }
  test::TemporaryDirectory directory_;
};

TEST_F(GpuDeviceFile, IsReadBackAsItWas) {
  const DeviceModel device = calibrate(small_gpu());
  write(device);
  EXPECT_EQ(to_json(load_device(directory_ / "device.json")), to_json(device));
}

TEST_F(GpuDeviceFile, PlansAreMadeWithIt) {
  FakeGpuProperties properties = small_gpu();
  properties.block_bytes = 4096;
  properties.facts.l2_bytes = kMiB;
  properties.effective_l2_bytes = 3 * kMiB / 4;
  properties.cold_bytes_per_s = 40e9;
  properties.hot_bytes_per_s = 160e9;
  DeviceModel device = calibrate(properties);
  write(device);
  EXPECT_THAT(tune({}), test::exits(2, HasSubstr("arithmetic rate")));

  const std::string path = PRESERVE_SOURCE_DIR "/examples/devices/h100-sxm.json";
  add_published(device, load_device(path), path);
  EXPECT_THAT(device.notes, testing::Contains(HasSubstr("h100-sxm.json")));
  EXPECT_FALSE(device.collectives.empty());
  write(device);
  EXPECT_THAT(succeeded(tune({})).out, HasSubstr("prefetch"));
  EXPECT_THAT(read_text_file(directory_ / "schedule.json"),
              HasSubstr("\"" + device.methods.front().name + "\""));
}

TEST(GpuPublished, MustBeOfAGpu) {
  DeviceModel published;
  published.kind = "cpu";
  EXPECT_THROW(check_published(published, "cpu.json"), Error);
}

}  // namespace
}  // namespace preserve
