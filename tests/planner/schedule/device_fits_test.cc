// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/device_fits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class DeviceFits : public testing::Test {
 protected:
  DeviceFits() { test::write_synthetic_trace(path_); }
  std::vector<std::string> check(const char* kind, int64_t ranks, bool force = false) {
    DeviceModel device;
    device.kind = kind;
    device.ranks = ranks;
    return check_device_fits(TraceDb::open(path_), device, "device.json", force);
  }
  test::TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_ / "trace.db";
};

TEST_F(DeviceFits, TheDeviceOfTheRecording) {
  EXPECT_THAT(check("cpu", 2), testing::IsEmpty());
}

TEST_F(DeviceFits, AnotherKindIsRefusedUnlessForced) {
  EXPECT_THAT([&] { check("gpu", 1); },
              test::fails_with("describes a gpu, but the recording is of a cpu"));
  EXPECT_THAT(check("gpu", 1, true), ElementsAre(HasSubstr("describes a gpu")));
}

TEST_F(DeviceFits, AnotherNumberOfRanksIsSaid) {
  EXPECT_THAT(check("cpu", 1), ElementsAre(HasSubstr("measured with 1 rank at once, the recording "
                                                     "has 2 per host")));
}

}  // namespace
}  // namespace preserve
