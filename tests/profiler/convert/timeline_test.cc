// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/timeline.h"

#include <gtest/gtest.h>

#include "profiler/convert/range_rows.h"

namespace preserve {
namespace {

// A thread that never ends the ranges of one domain: what lies far below them is not looked for.
TEST(Timeline, ARangeFarBelowOthersIsNotEnded) {
  TraceDb db = TraceDb::create(":memory:");
  ThreadShape shape;
  RangeRows rows(db, StreamId{1}, RangeId{1}, shape, {});
  Timeline timeline(rows);
  timeline.push(1, 1, 0);
  for (size_t i = 1; i < Timeline::kMostLookedAt; ++i) timeline.push(2, 2, 1);
  ASSERT_TRUE(timeline.pop(3, 0));
  timeline.push(4, 2, 1);
  EXPECT_FALSE(timeline.pop(5, 0)) << "nothing of it is open";
  EXPECT_TRUE(timeline.pop(6, 1));
  timeline.push(7, 3, 2);
  for (size_t i = 0; i < Timeline::kMostLookedAt; ++i) timeline.push(8, 2, 1);
  EXPECT_FALSE(timeline.pop(9, 2));
}

}  // namespace
}  // namespace preserve
