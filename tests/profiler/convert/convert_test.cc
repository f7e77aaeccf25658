// SPDX-License-Identifier: Apache-2.0
// The converter on spools made by hand: a golden recording, damaged ones, and random ones that must
// keep the invariants of a trace.
#include "profiler/convert/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fstream>

#include "common/error.h"
#include "common/output_file.h"
#include "profiler/convert/range_rows.h"
#include "profiler/convert/segments.h"
#include "tests/support/rows.h"
#include "tests/support/spool_writer.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {
namespace {

using testing::HasSubstr;

class Converted : public TraceFile {
 public:
  explicit Converted(const std::vector<std::filesystem::path>& files) {
    trace = folder_ / "trace.db";
    TraceDb file = TraceDb::create(trace);
    summary = convert_spools(files, file);
    file.finish();
  }
  // Kinds and counts.
  std::vector<std::string> losses() const {
    return rows("SELECT kind, count FROM loss ORDER BY kind");
  }
  ConvertSummary summary;

 private:
  TemporaryDirectory folder_;
};

// One spool and what becomes of it.
class OneSpool : TemporaryDirectory, public SpoolWriter {
 public:
  explicit OneSpool(std::vector<std::pair<std::string, std::string>> facts = {})
      : SpoolWriter(path() / "a.spool", std::move(facts)) {}
  Converted converted() {
    finish();
    return Converted({path() / "a.spool"});
  }
};

constexpr const char* kOps =
    "SELECT kind, name, start_ns || '-' || end_ns FROM op_named ORDER BY id";

TEST(Convert, GoldenRecording) {
  OneSpool spool({{"env.OMPI_COMM_WORLD_RANK", "1"}, {"env.OMPI_COMM_WORLD_SIZE", "2"}});
  spool.domain(3, "model");
  spool.region("layers.0.mlp.weight", 0x1000, 4096, 5);
  spool.region("layers.0.attn.kv", 0x9000, 512, 5);
  for (int64_t t : {10'000, 110'000, 210'000, 310'000}) {
    spool.resize(0x9000, 512 + static_cast<uint64_t>(t / 100'000) * 64, t - 5);
    spool.push("decode_step", t, 3);
    spool.push("layers.0.attn", t + 100, 3);
    spool.pop(t + 20'100, 3);
    spool.push("layers.0.allreduce", t + 20'200, 3);
    spool.call(mpi::kAllreduce, 8192, t + 20'300, t + 40'000);
    spool.pop(t + 40'100, 3);
    spool.push("layers.0.mlp", t + 62'000, 3);  // 21.9 us of its own time before
    spool.pop(t + 75'000, 3);
    spool.pop(t + 75'100, 3);
  }
  const Converted converted = spool.converted();
  const std::vector<std::string> ops = converted.rows(kOps);
  ASSERT_EQ(ops.size(), 19U);
  EXPECT_THAT(std::vector<std::string>(ops.begin(), ops.begin() + 5),
              testing::ElementsAre(
                  "compute layers.0.attn 10100-30100", "collective layers.0.allreduce 30300-50000",
                  "other decode_step 50100-72000", "compute layers.0.mlp 72000-85000",
                  "compute after decode_step 85100-110000"));
  EXPECT_THAT(converted.rows("SELECT name, depth, domain, COALESCE(parent_id, 0) FROM range_named "
                             "ORDER BY id LIMIT 4"),
              testing::ElementsAre("decode_step 0 model 0", "layers.0.attn 1 model 1",
                                   "layers.0.allreduce 1 model 1", "layers.0.mlp 1 model 1"));
  EXPECT_THAT(converted.rows("SELECT op, tensor, mode, offset_bytes || '+' || bytes FROM "
                             "access_named ORDER BY op_id, operand LIMIT 6"),
              testing::ElementsAre("layers.0.attn layers.0.attn.kv read 0+512",
                                   "layers.0.attn layers.0.attn.kv write 512+0",
                                   "layers.0.mlp layers.0.mlp.weight read 0+4096",
                                   "layers.0.attn layers.0.attn.kv read 0+576",
                                   "layers.0.attn layers.0.attn.kv write 512+64",
                                   "layers.0.mlp layers.0.mlp.weight read 0+4096"));
  EXPECT_THAT(
      converted.rows("SELECT rank, function, bytes, sequence FROM collective_named LIMIT 2"),
      testing::ElementsAre("1 allreduce 8192 0", "1 allreduce 8192 1"));
  EXPECT_EQ(converted.summary.steps.annotated, 4);
  EXPECT_TRUE(converted.summary.losses.empty());
}

TEST(Convert, AHeapGivesItsRegionsRoleAndEnd) {
  OneSpool spool;
  const uint64_t heap = spool.heap("model.kv_cache", 1);
  spool.region("block.0", 0x1000, 64, 2, heap);
  spool.region("layers.0.mlp.weight", 0x2000, 64, 3, heap);
  spool.region("other", 0x3000, 64, 4);
  spool.end_heap(heap, 500);
  spool.range("range", 1000, 1100);
  const Converted converted = spool.converted();
  EXPECT_THAT(
      converted.rows("SELECT value, role, COALESCE(valid_to_ns, '') FROM tensor JOIN string ON "
                     "string.id = name_id ORDER BY tensor.id"),
      testing::ElementsAre("block.0 kv 500", "layers.0.mlp.weight weight 500", "other unknown "));
}

TEST(Convert, ThreadsThatRunTheSameModuleReadItsTensorOnceEach) {
  OneSpool spool;
  spool.region("mlp.weight", 0x1000, 64, 1);
  for (const uint32_t tid : {5U, 6U}) {
    spool.thread(tid);
    spool.range("mlp", 1000 * tid, 1000 * tid + 500);
  }
  const Converted converted = spool.converted();
  EXPECT_EQ(converted.count("stream"), 2);
  EXPECT_EQ(converted.count("access"), 2);
}

// One operator per step, then `own_ns` of the step's own time, then another operator.
std::vector<std::string> names_with_own_time(const std::vector<int64_t>& own_ns) {
  OneSpool spool;
  int64_t t = 1000;
  for (const int64_t ns : own_ns) {
    spool.push("step", t);
    spool.push("a", t += 200);
    spool.pop(t += 50'000);
    spool.push("b", t += ns);
    spool.pop(t += 50'000);
    spool.pop(t += 200);
    t += 300;
  }
  return spool.converted().rows("SELECT name FROM op_named ORDER BY start_ns");
}

std::vector<std::string> repeated(const std::vector<std::string>& step, int times) {
  std::vector<std::string> all;
  for (int i = 0; i < times; ++i) all.insert(all.end(), step.begin(), step.end());
  return all;
}

TEST(Convert, TheSamePlaceIsJudgedTheSameInEveryStep) {
  std::vector<int64_t> own_ns(20, 21'000);
  own_ns[3] = 500;  // two short ones of twenty change nothing
  own_ns[7] = 500;
  EXPECT_EQ(names_with_own_time(own_ns), repeated({"a", "step", "b"}, 20));
}

TEST(Convert, LoadDoesNotMakeOperatorsOfWhatIsShort) {
  const std::vector<std::string> quiet = names_with_own_time(std::vector<int64_t>(20, 900));
  std::vector<int64_t> loaded(20, 15'000);  // cold code
  loaded[5] = loaded[11] = 4'000'000;       // the scheduler gave the core away
  EXPECT_EQ(names_with_own_time(loaded), quiet);
  EXPECT_EQ(quiet, repeated({"a", "b"}, 20));
}

std::vector<std::string> names_with_polls(int64_t polls, int64_t poll_ns) {
  OneSpool spool;
  int64_t t = 1000;
  for (int step = 0; step < 4; ++step) {
    spool.call(mpi::kAllreduce, 64, t, t + 3000);
    spool.call(mpi::kBarrier, 0, t + 3200, t + 4000);  // short, but two calls that communicate
    t += 90'000;
    for (int64_t i = 0; i < polls; ++i, t += poll_ns) spool.call(mpi::kTest, -1, t, t + 100);
  }
  return spool.converted().rows("SELECT name FROM op_named ORDER BY start_ns");
}

TEST(Convert, HowOftenAProgramAsksIsNoOperator) {
  const std::vector<std::string> often = names_with_polls(40, 300);
  EXPECT_EQ(names_with_polls(10, 1200), often);
  EXPECT_EQ(std::vector<std::string>(often.begin(), often.begin() + 4),
            (std::vector<std::string>{"MPI_Allreduce", "after MPI_Allreduce 64 B", "MPI_Barrier",
                                      "after MPI_Barrier 0 B"}));
}

TEST(Convert, TruncatedAnywhereIsReadAsFarAsItGoes) {
  const TemporaryDirectory folder;
  SpoolWriter spool(folder / "whole.spool");
  for (int64_t i = 0; i < 20; ++i) {
    spool.range("range", 1000 + 100 * i, 1050 + 100 * i);
  }
  spool.finish();
  const std::string bytes = read_text_file(folder / "whole.spool");
  int64_t most = 0;
  for (size_t size = 0; size < bytes.size(); size += 8) {
    std::ofstream(folder / "torn.spool", std::ios::binary) << bytes.substr(0, size);
    try {
      const Converted converted({folder / "torn.spool"});
      const int64_t ranges = converted.count("range");
      EXPECT_GE(ranges, most);
      EXPECT_FALSE(converted.summary.complete);
      most = ranges;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_THAT(error.what(), HasSubstr("torn.spool"));
      EXPECT_EQ(most, 0) << "a longer file was refused where a shorter one was read";
    }
  }
  EXPECT_EQ(most, 20);
}

TEST(Convert, NewerAndForeignFilesAreRefused) {
  const TemporaryDirectory folder;
  SpoolWriter spool(folder / "newer.spool");
  spool.push("range", 10);
  spool.finish();
  {
    std::fstream file(folder / "newer.spool", std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(8);
    file.put(9);
  }
  EXPECT_THAT([&] { Converted({folder / "newer.spool"}); },
              testing::ThrowsMessage<Error>(HasSubstr(
                  fmt::format("version 9, this program reads version {}", spool::kVersion))));
}

constexpr const char* kUnexplained =
    "SELECT COALESCE(SUM(CASE kind WHEN 'received' THEN count ELSE -count END), 0) FROM loss";

TEST(Convert, DamagedRecordsAreCounted) {
  OneSpool spool;
  spool.push("good", 100);
  spool.raw({2, 0, static_cast<spool::RecordType>(200), 0, 0, 110}, "");  // unknown type
  spool.raw({3, 900, spool::RecordType::push, 0, 0, 120}, "12345678");    // text beyond its end
  spool.raw({2, 0, spool::RecordType::mpi, 0, 0, 130}, "");               // no body
  spool.raw({2, 0, spool::RecordType::pop, 0, 0, UINT64_MAX}, "");        // at no time at all
  spool.pop(140);
  spool.pop(150);                                             // nothing open
  spool.raw({0, 0, spool::RecordType::push, 0, 0, 160}, "");  // of no length
  const Converted converted = spool.converted();
  EXPECT_EQ(converted.count("range"), 1);
  EXPECT_EQ(converted.loss("mpi", "damaged"), 1);
  EXPECT_EQ(converted.loss("nvtx", "unmatched"), 1);
  EXPECT_GE(converted.loss("nvtx", "damaged"), 3);
  EXPECT_EQ(converted.number(kUnexplained), 0);
}

TEST(Convert, WhatTheCollectorDoesNotCountIsReceivedWhenItIsBad) {
  OneSpool spool;
  spool.stray_name("weights", 50);
  spool.stray_name("cache", 60);
  spool.mark("only record", 100);
  const Converted converted = spool.converted();
  EXPECT_THAT(converted.losses(), testing::ElementsAre("received 3", "unmatched 2", "written 1"));
}

TEST(Convert, MarksOfHooksAreWarningsUpToTwenty) {
  OneSpool spool;
  spool.push("preserve: a range of the program", 100);
  for (int i = 0; i < 23; ++i) spool.mark(fmt::format("preserve: note {}", i), 101 + i);
  spool.pop(200);
  const auto warnings = spool.converted().summary.warnings;
  ASSERT_EQ(warnings.size(), 21U);
  EXPECT_EQ(warnings.front(), "preserve: note 0");
  EXPECT_EQ(warnings.back(), "preserve: and 3 more notes");
}

TEST(Convert, ARecordIsLostInOneWayOnly) {
  OneSpool spool;
  spool.raw({2, 0, spool::RecordType::pop, spool::kTextCut, 0, 110}, "");  // nothing is open
  spool.raw({2, 0, spool::RecordType::range_end, spool::kTextCut, 0, 120}, "");
  const Converted converted = spool.converted();
  EXPECT_THAT(converted.losses(), testing::ElementsAre("received 2", "unmatched 2", "written 0"));
}

TEST(Convert, CountersAndClocksThatCannotBeTrueAreDamage) {
  for (const uint64_t dropped : {uint64_t{1} << 63, UINT64_MAX, uint64_t{1} << 50}) {
    for (const int64_t anchor_ns : {INT64_MAX, int64_t{1} << 62}) {
      OneSpool spool;
      spool.range("range", 100, 200);
      spool.dropped = dropped;
      spool.last_anchor_ns = anchor_ns;
      const Converted converted = spool.converted();
      EXPECT_EQ(converted.number("SELECT count FROM loss WHERE kind = 'damaged'"), 2);
      EXPECT_EQ(converted.number("SELECT count FROM loss WHERE kind = 'written'"), 2);
      EXPECT_EQ(converted.number(kUnexplained), 0);
      EXPECT_EQ(converted.rows("SELECT start_ns || '-' || end_ns FROM range").front(), "100-200");
    }
  }
}

TEST(Convert, ThreadsThatHadOneNumberAfterEachOtherAreTwo) {
  OneSpool spool;
  spool.push("left open by the first", 100);
  spool.next_thread();
  spool.range("second", 300, 400);
  const Converted converted = spool.converted();
  EXPECT_EQ(converted.count("stream"), 2);
  EXPECT_EQ(converted.number("SELECT depth FROM range_named WHERE name = 'second'"), 0);
}

TEST(Convert, DroppedRecordsComeFromTheStatistics) {
  OneSpool spool;
  spool.range("range", 100, 200);
  spool.dropped = 10;
  const Converted converted = spool.converted();
  EXPECT_THAT(converted.losses(), testing::ElementsAre("dropped 10", "received 12", "written 2"));
}

TEST(Convert, OneRankIsOneProcess) {
  const TemporaryDirectory folder;
  SpoolWriter helper(folder / "a.spool", {{"env.RANK", "0"}, {"env.WORLD_SIZE", "2"}});
  helper.range("helper", 100, 200);
  helper.finish();
  SpoolWriter worker(folder / "b.spool", {{"env.RANK", "0"}, {"env.WORLD_SIZE", "2"}});
  worker.call(mpi::kAllreduce, 8, 100, 200);
  worker.finish();
  const Converted converted({folder / "a.spool", folder / "b.spool"});
  EXPECT_EQ(converted.count("process"), 2);
  EXPECT_EQ(converted.count("collective_named WHERE rank = 0"), 1);
  EXPECT_EQ(converted.count("process WHERE rank IS NULL"), 1);
}

TEST(Convert, ARankIsNotGuessed) {
  using Facts = std::vector<std::pair<std::string, std::string>>;
  const auto rank_of = [](const Facts& facts) {
    OneSpool spool(facts);
    spool.range("step", 100, 200);
    return spool.converted()
        .rows("SELECT ifnull(rank, 'none') || ' of ' || ifnull(world_size, 'none') FROM process")
        .at(0);
  };
  EXPECT_EQ(rank_of({{"env.PMI_RANK", "1"}, {"env.PMI_SIZE", "4"}}), "1 of 4");
  EXPECT_EQ(rank_of({{"env.RANK", "1"}, {"env.WORLD_SIZE", "2"}, {"env.SLURM_NTASKS", "8"}}),
            "1 of 2");
  EXPECT_EQ(rank_of({{"env.PMIX_RANK", "3"}}), "3 of none");
  EXPECT_EQ(rank_of({{"env.RANK", "1"}}), "none of none");
  EXPECT_EQ(rank_of({{"env.RANK", "4"}, {"env.WORLD_SIZE", "4"}}), "none of none");
  EXPECT_EQ(rank_of({{"env.RANK", "1"}, {"env.PMI_SIZE", "4"}}), "none of none");
}

// Random programs: pushes, pops and calls of one thread in any order, at rising times, some of them
// in a second domain that does not nest with the first.
RC_GTEST_PROP(Convert, RandomTimelinesKeepTheInvariants, ()) {
  OneSpool spool;
  spool.domain(1, "other");
  const auto actions = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 7));
  int64_t t = 1000;
  for (const int action : actions) {
    t += *rc::gen::element<int64_t>(0, 1, 300, 999, 1001, 5000);
    switch (action) {
      case 0:
      case 1:
        spool.push(*rc::gen::element<std::string>("a", "a.b", "a.b.c"), t);
        break;
      case 2:
      case 3:
        spool.pop(t);
        break;
      case 4:
        spool.push("x", t, 1);
        break;
      case 5:
        spool.pop(t, 1);
        break;
      default: {
        const int64_t end = t + *rc::gen::element<int64_t>(0, 500, 20'000);
        spool.call(mpi::kAllreduce, 64, t, end);
        t = end;
      }
    }
  }
  const Converted converted = spool.converted();
  const auto none = [&converted](const char* from) { return converted.count(from) == 0; };
  RC_ASSERT(
      none("stream_coverage WHERE attributed_ns + idle_ns <> wall_ns OR idle_ns < 0 OR "
           "attributed_ns < 0"));
  RC_ASSERT(
      none("(SELECT start_ns, LAG(end_ns) OVER (PARTITION BY stream_id ORDER BY id) AS before FROM "
           "op) WHERE start_ns < before"));
  RC_ASSERT(
      none("range AS c JOIN range AS p ON p.id = c.parent_id WHERE c.depth <> p.depth + 1 OR "
           "c.start_ns < p.start_ns OR COALESCE(c.end_ns, 1e18) > COALESCE(p.end_ns, 1e18)"));
  RC_ASSERT(none("range WHERE parent_id IS NULL AND depth <> 0"));
  RC_ASSERT(
      none("op JOIN range ON range.id = op.range_id WHERE op.start_ns < range.start_ns OR "
           "op.end_ns > COALESCE(range.end_ns, 1e18)"));
  RC_ASSERT(converted.number(kUnexplained) == 0);
  const auto calls = std::count(actions.begin(), actions.end(), 6);
  RC_ASSERT(converted.count("collective") == calls);
}

// Rows of the same nested ranges, however few of them may wait for their end.
RC_GTEST_PROP(RangeRows, ARowThatCouldNotWaitIsCompletedLater, ()) {
  const auto pushes = *rc::gen::container<std::vector<bool>>(rc::gen::arbitrary<bool>());
  const auto rows_with = [&](size_t most_waiting) {
    TraceDb db = TraceDb::create(":memory:");
    ThreadShape shape;
    RangeRows rows(db, StreamId{1}, RangeId{1}, shape, {}, most_waiting);
    Timeline timeline(rows);
    int64_t ns = 0;
    for (const bool push : pushes) {
      ++ns;
      if (push) {
        timeline.push(ns, 1 + static_cast<uint32_t>(ns) % 3, 0);
        rows.add_payload(timeline.innermost(), std::to_string(ns));
      } else if (const OpenRange* closing = timeline.innermost_of(0)) {
        if (ns % 2 == 0) rows.add_payload(closing->index, std::to_string(ns));
        timeline.pop(ns, 0);
      }
    }
    rows.finish(timeline.open());
    return test::rows(
        db,
        "SELECT id, parent_id, name_id, depth, start_ns, end_ns, payload FROM range ORDER BY id");
  };
  RC_ASSERT(rows_with(1) == rows_with(RangeRows::kMostWaiting));
  RC_ASSERT(rows_with(3) == rows_with(RangeRows::kMostWaiting));
}

// A boundary that had to go before the next call was known takes its time from that call.
TEST(Segments, NothingOverlapsWhenTooMuchHappensInsideACall) {
  const auto segments_with = [](size_t most_waiting) {
    ThreadShape shape;
    shape.ranges.assign(2, 0);
    std::vector<std::pair<int64_t, int64_t>> out;
    Segments segments(
        shape, [&](const Segment& segment) { out.emplace_back(segment.start_ns, segment.end_ns); },
        most_waiting);
    Timeline timeline(segments);
    for (int64_t ns : {100, 300}) {
      timeline.push(ns, 1, 0);
      timeline.pop(ns + 50, 0);
    }
    TimelineCall call;
    call.start_ns = 50;
    call.end_ns = 400;
    timeline.call(call);
    segments.finish();
    return out;
  };
  using Times = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(segments_with(10), (Times{{50, 400}}));
  EXPECT_EQ(segments_with(2), (Times{{100, 150}, {150, 400}}));
}

}  // namespace
}  // namespace preserve::test
