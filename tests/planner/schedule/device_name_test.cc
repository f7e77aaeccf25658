// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/device_name.h"

#include <gtest/gtest.h>

namespace preserve {
namespace {

TEST(DeviceName, PublishedNamesMeanTheDevicesOfTheDriver) {
  EXPECT_TRUE(same_device("h100-sxm", "NVIDIA H100 80GB HBM3"));
  EXPECT_TRUE(same_device("h200", "NVIDIA H200"));
  EXPECT_TRUE(same_device("b200", "NVIDIA B200"));
  EXPECT_TRUE(same_device("a100-80g", "NVIDIA A100-SXM4-80GB"));
  EXPECT_TRUE(same_device("a100-80g", "NVIDIA A100 80GB PCIe"));
  EXPECT_TRUE(same_device("rtx-pro-6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition"));
  EXPECT_TRUE(same_device("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"));
  EXPECT_TRUE(same_device("AMD EPYC 9554", "AMD EPYC 9554"));
}

TEST(DeviceName, OtherModelsFormsAndSizesAreOtherDevices) {
  EXPECT_FALSE(same_device("h100-sxm", "NVIDIA H200"));
  EXPECT_FALSE(same_device("h100-sxm", "NVIDIA H100 PCIe"));
  EXPECT_FALSE(same_device("h100-sxm", "NVIDIA H100 NVL"));
  EXPECT_FALSE(same_device("h200", "NVIDIA GH200 480GB"));
  EXPECT_FALSE(same_device("a100-80g", "NVIDIA A100-SXM4-40GB"));
  EXPECT_FALSE(same_device("rtx-pro-6000", "NVIDIA RTX PRO 5000 Blackwell"));
  EXPECT_FALSE(same_device("rtx-6000-ada", "Quadro RTX 6000"));
  EXPECT_FALSE(same_device("ascend-910b", "NVIDIA B200"));
  EXPECT_FALSE(same_device("", "NVIDIA B200"));
  EXPECT_FALSE(same_device("gpu", "graphics"));
}

}  // namespace
}  // namespace preserve
