// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "profiler/clocks/clock_line.h"
#include "profiler/clocks/hosts.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::clocks {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr double kShiftNs = -50e6, kDrift = -20e-6;

// A host whose clock is ahead by 50 ms and runs 20 ppm too fast, read with some asymmetry.
Reading reading(int64_t local_ns, int64_t round_trip_ns, int64_t off_ns = 0) {
  const double offset = kShiftNs + kDrift * static_cast<double>(local_ns);
  const int64_t up_ns = 100 * kSecondNs + local_ns;  // clocks begin with the machine
  return {up_ns, up_ns + std::llround(offset) + off_ns, round_trip_ns};
}

TEST(ClockLine, FollowsOffsetAndDrift) {
  const auto line = line_through({reading(0, 8000), reading(10 * kSecondNs, 10'000)}, 0);
  ASSERT_TRUE(line);
  EXPECT_NEAR(line->drift, kDrift, 1e-12);
  EXPECT_NEAR(line->offset_at(105 * kSecondNs), kShiftNs + kDrift * 5e9, 1);
  EXPECT_NEAR(line->error_ns, 5000, 1);
  EXPECT_NEAR(line->residual_ns, 0, 1);
  EXPECT_EQ(line->readings, 2);
}

TEST(ClockLine, SlowRoundTripsCountLittleAndShowInTheResidual) {
  const auto line = line_through(
      {reading(0, 8000), reading(5 * kSecondNs, 800'000, 300'000), reading(10 * kSecondNs, 8000)},
      0);
  ASSERT_TRUE(line);
  EXPECT_NEAR(line->offset_at(100 * kSecondNs), kShiftNs, 100);
  EXPECT_NEAR(line->offset_at(110 * kSecondNs), kShiftNs + kDrift * 10e9, 100);
  EXPECT_NEAR(line->residual_ns, 300'000, 200);
}

TEST(ClockLine, WithoutAnEndTheErrorGrowsWithTheDistance) {
  const auto line = line_through({reading(0, 8000)}, 110 * kSecondNs);
  ASSERT_TRUE(line);
  EXPECT_EQ(line->drift, 0);
  EXPECT_NEAR(line->error_ns, 4000 + 50e-6 * 10e9, 1);
}

TEST(ClockLine, ImpossibleReadingsAreNone) {
  EXPECT_FALSE(line_through({}, 0));
  EXPECT_FALSE(line_through({{-1, 5, 10}, {5, INT64_MAX, 10}, {5, 5, 0}, {5, 5, INT64_MIN}}, 0));
}

TEST(ClockLine, RunsBetweenBounds) {
  std::vector<Bounds> bounds;
  for (int64_t i = 0; i < 200; ++i) {
    const int64_t ns = i * kSecondNs / 10;
    const double offset = kShiftNs + kDrift * static_cast<double>(ns);
    // Now this host is the last to enter, now the other.
    const double early = i % 2 == 0 ? 3000 : 900'000, late = i % 2 == 0 ? 900'000 : 3000;
    bounds.push_back({ns, offset - early, offset + late});
  }
  const Line line = line_between(bounds);
  EXPECT_NEAR(line.drift, kDrift, 1e-9);
  EXPECT_NEAR(line.offset_at(10 * kSecondNs), kShiftNs + kDrift * 10e9, 100);
  EXPECT_NEAR(line.error_ns, 3000, 100);
  EXPECT_EQ(line.residual_ns, 0);
  bounds.push_back({kSecondNs, kShiftNs + 1e6, kShiftNs + 2e6});
  EXPECT_GT(line_between(bounds).residual_ns, 0);
}

// Two ranks with an allreduce every millisecond; `late_ns`: how much later the second one enters.
// Its times are those of a clock with `shift_ns` and `drift`.
class TwoRanks : public ::testing::Test {
 protected:
  void add(double shift_ns, double drift, const char* second_host = "b") {
    for (int rank = 0; rank < 2; ++rank) {
      const auto on_its_clock = [&](int64_t ns) {
        return rank == 0 ? ns : ns + std::llround(shift_ns + drift * static_cast<double>(ns));
      };
      ProcessRow process{.host = rank == 0 ? "a" : second_host, .pid = 100 + rank};
      process.start_ns = on_its_clock(kBeginNs);
      process.end_ns = on_its_clock(kBeginNs + kSecondNs);
      const ProcessId id = db_.add(process);
      processes_.push_back({id, process.host, process.host, {}, process.end_ns});
      const StreamId stream = db_.add(StreamRow{.process = id});
      for (int64_t i = 0; i < 1000; ++i) {
        const int64_t last_ns = kBeginNs + i * 1'000'000 + 40'000;
        const bool waits = (i % 2 == 0) == (rank == 0);
        OpRow op{.stream = stream, .kind = OpKind::collective, .name = db_.intern("allreduce")};
        op.start_ns = on_its_clock(waits ? last_ns - 30'000 : last_ns);
        op.end_ns = on_its_clock(last_ns + 4000);
        db_.add(CollectiveRow{.op = db_.add(op),
                              .function = "allreduce",
                              .bytes = 8,
                              .communicator = 7,
                              .sequence = i,
                              .source = "pmpi"});
      }
    }
  }
  int64_t number(const char* sql) { return db_.query_integer(sql).value_or(-1); }
  int64_t worst_difference() {
    return number(
        "SELECT MAX(ABS(a.end_ns - b.end_ns)) FROM op AS a JOIN op AS b ON b.id = a.id + 1000");
  }

  static constexpr int64_t kBeginNs = 100 * kSecondNs;
  TraceDb db_ = TraceDb::create(":memory:");
  std::vector<Process> processes_;
};

TEST_F(TwoRanks, ComeOntoOneClockByTheirCollectives) {
  add(3e14, 20e-6);
  const Outcome outcome = to_one_clock(db_, processes_);
  EXPECT_THAT(outcome.apart, IsEmpty());
  EXPECT_THAT(outcome.warnings, IsEmpty());
  EXPECT_THAT(outcome.notes, ElementsAre(HasSubstr("clocks of 2 hosts: 1 process moved")));
  EXPECT_LE(worst_difference(), 500);
  EXPECT_EQ(
      number("SELECT COUNT(*) FROM clock WHERE source = 'collectives' AND readings = 1000 AND "
             "process_id = 2 AND error_ns BETWEEN 3000 AND 4500 AND left_early_ns = 0"),
      1);
  EXPECT_LE(std::abs(number("SELECT start_ns FROM process WHERE id = 2") - kBeginNs), 2000);
}

TEST_F(TwoRanks, ThatAgreeAlreadyStayAsTheyAre) {
  add(0, 0);
  EXPECT_THAT(to_one_clock(db_, processes_).warnings, IsEmpty());
  EXPECT_EQ(worst_difference(), 0);
  EXPECT_EQ(number("SELECT offset_ns FROM clock"), 0);
}

TEST_F(TwoRanks, FollowTheirRoundTrips) {
  add(50e6, 0);
  for (const int64_t ns : {kBeginNs, kBeginNs + kSecondNs}) {
    processes_[0].readings.push_back({ns, ns + 900, 8000});  // within the error: not moved
    processes_[1].readings.push_back({ns + 50'000'000, ns, 8000});
  }
  EXPECT_THAT(to_one_clock(db_, processes_).warnings, IsEmpty());
  EXPECT_LE(worst_difference(), 1);
  EXPECT_EQ(number("SELECT COUNT(*) FROM clock WHERE source = 'round_trips' AND left_early_ns = 0"),
            2);
  EXPECT_EQ(number("SELECT offset_ns FROM clock WHERE process_id = 1"), 0);
  EXPECT_EQ(number("SELECT offset_ns FROM clock WHERE process_id = 2"), -50'000'000);
}

TEST_F(TwoRanks, AreCheckedByTheirCollectives) {
  add(50e6, 0);
  for (const int64_t ns : {kBeginNs, kBeginNs + kSecondNs}) {
    processes_[0].readings.push_back({ns, ns, 8000});
    processes_[1].readings.push_back({ns + 50'000'000, ns + 600'000, 8000});  // a wrong answer
  }
  const Outcome outcome = to_one_clock(db_, processes_);
  EXPECT_THAT(outcome.warnings,
              ElementsAre(HasSubstr("left a collective 596.00 us before another")));
  EXPECT_EQ(number("SELECT MAX(left_early_ns) FROM clock"), 596'000);
}

TEST_F(TwoRanks, WithoutACommonCollectiveAreApart) {
  add(50e6, 0);
  db_.execute("UPDATE collective SET communicator = op_id");
  EXPECT_THAT(to_one_clock(db_, processes_).apart, ElementsAre("b"));
}

}  // namespace
}  // namespace preserve::clocks
