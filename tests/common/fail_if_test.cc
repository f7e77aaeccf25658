// SPDX-License-Identifier: Apache-2.0
#include "common/fail_if.h"

#include <gtest/gtest.h>

#include "common/error.h"

namespace preserve {
namespace {

TEST(FailIf, TakesAShareInPercent) {
  EXPECT_DOUBLE_EQ(parse_slower("slower=5%"), 0.05);
  EXPECT_DOUBLE_EQ(parse_slower("slower=0%"), 0);
  EXPECT_DOUBLE_EQ(parse_slower("slower=0.5%"), 0.005);
  for (const char* bad : {"", "slower", "slower=", "slower=%", "slower=x%", "slower=-1%",
                          "slower=100%", "slower=nan%", "slower=inf%", "slower=5", "faster=5%"}) {
    EXPECT_THROW(parse_slower(bad), Error) << bad;
  }
}

TEST(FailIf, TheWholeIntervalMustSaySo) {
  EXPECT_TRUE(surely_slower({0.92, 0.93, 0.94}, 0.05));
  EXPECT_FALSE(surely_slower({0.90, 0.93, 0.96}, 0.05));
  EXPECT_FALSE(surely_slower({0.95, 0.95, 0.95}, 0.05));
  EXPECT_FALSE(surely_slower({1.0, 1.1, 1.2}, 0));
}

}  // namespace
}  // namespace preserve
