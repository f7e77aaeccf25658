// SPDX-License-Identifier: Apache-2.0
#include "common/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "common/error.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

TEST(Units, Durations) {
  EXPECT_EQ(parse_duration_ns("200us"), 200'000);
  EXPECT_EQ(parse_duration_ns("200\u00b5s"), 200'000);
  EXPECT_EQ(parse_duration_ns("200\u03bcs"), 200'000);
  EXPECT_EQ(parse_duration_ns("1.5ms"), 1'500'000);
  EXPECT_EQ(parse_duration_ns("3 s"), 3'000'000'000);
  EXPECT_EQ(parse_duration_ns("0"), 0);
  for (const char* bad :
       {"", "200", "-1us", "us", "1usx", "nan s", "inf s", "1e400s", "99999999999s"}) {
    EXPECT_THROW(parse_duration_ns(bad), Error) << bad;
  }
}

TEST(Units, Sizes) {
  EXPECT_EQ(parse_size_bytes("32MiB"), 32 << 20);
  EXPECT_EQ(parse_size_bytes("4MB"), 4'000'000);
  EXPECT_EQ(parse_size_bytes("4096"), 4096);
  EXPECT_EQ(parse_size_bytes("1.5K"), 1536);
  for (const char* bad : {"", "-5", "5 parsecs", "0x10", "1e30GiB"}) {
    EXPECT_THROW(parse_size_bytes(bad), Error) << bad;
  }
}

TEST(Units, TheErrorNamesTheTextAndTheUnits) {
  EXPECT_THAT(
      [] { parse_duration_ns("200"); },
      test::fails_with(ErrorKind::usage, testing::AllOf(testing::HasSubstr("'200'"),
                                                        testing::HasSubstr("ns, us, ms, s"))));
}

TEST(Units, Printing) {
  EXPECT_EQ(format_duration(12345), "12.35 us");
  EXPECT_EQ(format_size(4 << 20), "4.0 MiB");
  EXPECT_EQ(format_rate(31.2e9), "31.2 GB/s");
}

TEST(Units, CheckedArithmeticRefusesOverflow) {
  const int64_t big = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(checked_add(2, 3, "x"), 5);
  EXPECT_THROW(checked_add(big, 1, "x"), Error);
  EXPECT_THROW(checked_mul(big, 2, "x"), Error);
}

TEST(Units, ASpeedupSaysOnWhichSideItsIntervalLies) {
  EXPECT_EQ(describe_speedup(1.142), "14.2 % faster");
  EXPECT_EQ(describe_speedup(Interval{1.136, 1.142, 1.149}), "14.2 % faster [13.6 to 14.9 %]");
  EXPECT_EQ(describe_speedup(Interval{0.95, 0.97, 0.98}), "3.0 % slower [2.0 to 5.0 %]");
  EXPECT_EQ(describe_speedup(Interval{0.943, 0.996, 1.007}),
            "0.4 % slower [5.7 % slower to 0.7 % faster]");
  EXPECT_EQ(describe_speedup(Interval{0.99, 1, 1}), "0.0 % faster [1.0 % slower to 0.0 % faster]");
  EXPECT_EQ(describe_speedup(Interval{1, 1, 1}), "0.0 % faster [0.0 to 0.0 %]");
}

}  // namespace
}  // namespace preserve
