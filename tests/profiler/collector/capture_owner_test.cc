// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "profiler/capture_range.h"

namespace preserve::cuda {
namespace {

TEST(CaptureOwner, OneRangeIsFollowedAtATime) {
  CaptureOwner owner;
  EXPECT_FALSE(owner.is_thread(7));
  EXPECT_TRUE(owner.take_thread(7));
  EXPECT_TRUE(owner.is_thread(7));
  EXPECT_FALSE(owner.is_thread(8));
  EXPECT_FALSE(owner.take_thread(8));
  EXPECT_FALSE(owner.take_started(7));
  owner.release();
  EXPECT_TRUE(owner.take_started(7));
  EXPECT_FALSE(owner.is_thread(7));  // the same number, but of a range
}

TEST(CaptureOwner, AStartedRangeEndsOnceAndOnlyUnderItsId) {
  CaptureOwner owner;
  EXPECT_TRUE(owner.take_started(3));
  EXPECT_FALSE(owner.end_started(4));
  EXPECT_TRUE(owner.end_started(3));
  EXPECT_FALSE(owner.end_started(3));
  EXPECT_FALSE(owner.take_thread(1)) << "taken before its end was dealt with";
  owner.release();
  EXPECT_TRUE(owner.take_thread(1));
  EXPECT_FALSE(owner.end_started(0));
}

}  // namespace
}  // namespace preserve::cuda
