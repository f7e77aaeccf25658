// SPDX-License-Identifier: Apache-2.0
// Which windows one run of the referee may change together.
#include "planner/search/apart.h"

#include <gtest/gtest.h>

#include "tests/planner/tiny_step.h"

namespace preserve {
namespace {

// Four windows, each with one reader after it: operators 0 … 7, consumers 0 … 3.
struct FourWindows {
  std::vector<int32_t> add_operators() {
    std::vector<int32_t> collectives;
    for (const char* name : {"a", "b", "c", "d"}) {
      collectives.push_back(tiny.collective(10'000));
      tiny.reader(name, 200'000, 30'000);
    }
    return collectives;
  }
  bool apart(size_t window) const { return of.is_apart(window); }

  test::TinyStep tiny;
  std::vector<int32_t> windows = add_operators();
  PlanProblem problem = build_problem(*tiny, test::tiny_device(150'000), {});
  WindowRing ring{*tiny, problem, windows};
  Amounts amounts = Amounts(4);
  WindowsApart of{ring};
};

TEST(WindowsApart, BytesReachOverTheWindowsThatOpenBeforeTheyAreRead) {
  FourWindows four;
  ASSERT_EQ(four.problem.consumers.size(), 4U);
  EXPECT_EQ(WindowsApart::reach(four.ring, four.amounts, 0), 1U);
  four.amounts[0] = {{0, 4}};
  EXPECT_EQ(WindowsApart::reach(four.ring, four.amounts, 0), 1U);
  four.amounts[0] = {{0, 4}, {2, 4}};
  EXPECT_EQ(WindowsApart::reach(four.ring, four.amounts, 0), 3U);
  four.amounts[3] = {{0, 4}};  // over the end of the step
  EXPECT_EQ(WindowsApart::reach(four.ring, four.amounts, 3), 2U);
}

TEST(WindowsApart, NeighboursAreNotChangedTogether) {
  FourWindows four;
  four.of.begin(four.amounts);
  for (int run = 0; run < 2; ++run) {
    four.of.begin_run();
    for (size_t window = 0; window < 4; ++window) EXPECT_TRUE(four.apart(window));
    four.of.occupy(1);
    EXPECT_FALSE(four.apart(0)) << "what the next one does would count for it";
    EXPECT_FALSE(four.apart(1));
    EXPECT_FALSE(four.apart(2));
    EXPECT_TRUE(four.apart(3));
  }
}

TEST(WindowsApart, NothingChangesWhereBytesOfAChangeAreHeld) {
  FourWindows four;
  four.amounts[0] = {{2, 4}};
  four.of.begin(four.amounts);
  four.of.begin_run();
  four.of.occupy(0);
  for (size_t window = 0; window < 4; ++window) EXPECT_FALSE(four.apart(window));
  // Nor the other way round.
  four.of.begin_run();
  four.of.occupy(2);
  EXPECT_FALSE(four.apart(0));
}

// Held over the whole ring: still apart from itself.
TEST(WindowsApart, AWindowAloneIsApart) {
  FourWindows four;
  four.amounts[1] = {{0, 4}};
  EXPECT_EQ(WindowsApart::reach(four.ring, four.amounts, 1), 4U);
  four.of.begin(four.amounts);
  four.of.begin_run();
  EXPECT_TRUE(four.apart(1));
  four.of.occupy(1);
  for (size_t window = 0; window < 4; ++window) EXPECT_FALSE(four.apart(window));
}

}  // namespace
}  // namespace preserve
