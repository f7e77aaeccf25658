// SPDX-License-Identifier: Apache-2.0
#include "db/step/steps.h"
#include "db/step/annotations.h"
#include "db/step/period.h"

#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include "tests/db/one_stream.h"
#include "tests/support/rows.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

std::vector<uint64_t> repeat(const std::vector<uint64_t>& block, size_t times) {
  std::vector<uint64_t> out;
  for (size_t i = 0; i < times; ++i) out.insert(out.end(), block.begin(), block.end());
  return out;
}

TEST(FindPeriod, AWholeStepAndNotItsLayers) {
  // embed, 4 x (attention, allreduce, mlp, allreduce), head: the layer repeats inside the step.
  std::vector<uint64_t> step{1};
  for (int layer = 0; layer < 4; ++layer) step.insert(step.end(), {2, 3, 4, 3});
  step.push_back(9);
  const Period period = find_period(repeat(step, 5));
  EXPECT_EQ(period.length, step.size());
  EXPECT_EQ(period.repeats, 5u);
}

TEST(FindPeriod, APrologueIsSkipped) {
  std::vector<uint64_t> symbols{50, 51, 52, 53, 54};
  const std::vector<uint64_t> steps = repeat({1, 2, 3}, 6);
  symbols.insert(symbols.end(), steps.begin(), steps.end());
  const Period period = find_period(symbols);
  EXPECT_EQ(period.length, 3u);
  EXPECT_EQ(period.begin, 5u);
  EXPECT_EQ(period.repeats, 6u);
}

TEST(FindPeriod, OneOddOperatorInAStepIsTolerated) {
  std::vector<uint64_t> step;
  for (uint64_t i = 0; i < 20; ++i) step.push_back(i);
  std::vector<uint64_t> symbols = repeat(step, 6);
  symbols[47] = 999;
  EXPECT_EQ(find_period(symbols).length, 20u);
  EXPECT_EQ(find_period(symbols).repeats, 6u);
}

TEST(FindPeriod, NoRepetitionNoPeriod) {
  std::vector<uint64_t> symbols;
  for (uint64_t i = 0; i < 100; ++i) symbols.push_back(i);
  EXPECT_EQ(find_period(symbols).length, 0u);
  EXPECT_EQ(find_period({}).length, 0u);
  EXPECT_EQ(find_period({1, 1}).length, 0u);
}

RC_GTEST_PROP(FindPeriod, FindsTheLengthOfADistinctBlockAnywhere, ()) {
  const auto length = *rc::gen::inRange<size_t>(1, 60);
  const auto times = *rc::gen::inRange<size_t>(3, 8);
  const auto before = *rc::gen::inRange<size_t>(0, 20);
  std::vector<uint64_t> symbols, block;
  for (size_t i = 0; i < before; ++i) symbols.push_back(1000 + i);
  for (size_t i = 0; i < length; ++i) block.push_back(i);
  const std::vector<uint64_t> steps = repeat(block, times);
  symbols.insert(symbols.end(), steps.begin(), steps.end());
  const Period period = find_period(symbols);
  RC_ASSERT(period.length == length);
  RC_ASSERT(period.repeats == times);
  RC_ASSERT(period.begin == before);
}

TEST(MarkSteps, EveryOperatorOfAnAnnotatedStepIsAttributed) {
  const test::SyntheticTrace spec;
  const TraceDb db = test::synthetic_trace(spec);
  EXPECT_EQ(test::count(db, "step"), spec.steps * spec.ranks);
  EXPECT_EQ(test::count(db, "op WHERE step_id IS NULL"), 0);
  EXPECT_EQ(test::count(db,
                        "op JOIN step ON step.id = op.step_id JOIN stream ON stream.id = "
                        "op.stream_id WHERE step.process_id <> stream.process_id OR op.start_ns < "
                        "step.start_ns OR op.start_ns >= step.end_ns"),
            0);
}

TEST(MarkSteps, OwnNamesReplaceTheBuiltInOnes) {
  TraceDb db = TraceDb::create(":memory:");
  const StreamId stream = test::add_stream(db);
  for (int i = 0; i < 4; ++i) {
    db.add(RangeRow{.stream = stream,
                    .name = db.intern("token " + std::to_string(i)),
                    .start_ns = i * 100,
                    .end_ns = i * 100 + 90});
    db.add(OpRow{.stream = stream,
                 .name = db.intern("op"),
                 .start_ns = i * 100 + 5,
                 .end_ns = i * 100 + 50});
  }
  EXPECT_EQ(mark_steps(db, StepOptions{.decode_globs = {"token *"}}).annotated, 4);
  EXPECT_EQ(db.query_integer("SELECT COUNT(DISTINCT step_id) FROM op"), 4);
}

TEST(MarkSteps, NestedAnnotationsAreOneStep) {
  TraceDb db = TraceDb::create(":memory:");
  const StreamId stream = test::add_stream(db);
  const StringId name = db.intern("decode_step");
  db.add(RangeRow{.stream = stream, .name = name, .start_ns = 0, .end_ns = 100});
  db.add(RangeRow{.stream = stream, .name = name, .start_ns = 10, .end_ns = 60});
  EXPECT_EQ(mark_steps(db).annotated, 1);
}

// The GPUs of one process, whose ranges were written one by one: each follows its own launches.
TEST(MarkSteps, RangesOfSeveralProcessesMayLieBetweenEachOther) {
  TraceDb db = TraceDb::create(":memory:");
  constexpr int kProcesses = 3, kSteps = 4;
  std::vector<StreamId> threads, gpus;
  for (int i = 0; i < kProcesses; ++i) {
    const ProcessId process = db.add(ProcessRow{.host = "h", .pid = 1});
    threads.push_back(db.add(StreamRow{.process = process}));
    gpus.push_back(db.add(StreamRow{.process = process, .kind = StreamKind::gpu}));
  }
  std::vector<std::vector<RangeId>> inner(kProcesses);
  for (int64_t step = 0; step < kSteps; ++step) {
    for (size_t i = 0; i < kProcesses; ++i) {
      const int64_t start_ns = 1000 * step;
      const RangeId outer = db.add(RangeRow{.stream = threads[i],
                                            .name = db.intern("decode_step"),
                                            .start_ns = start_ns,
                                            .end_ns = start_ns + 100});
      inner[i].push_back(db.add(RangeRow{.stream = threads[i],
                                         .parent = outer,
                                         .name = db.intern("mlp"),
                                         .depth = 1,
                                         .start_ns = start_ns,
                                         .end_ns = start_ns + 100}));
    }
  }
  for (int64_t i = 0; i < kProcesses; ++i) {
    for (int64_t step = 0; step < kSteps; ++step) {
      const auto place = static_cast<size_t>(i);
      const int64_t start_ns = 1000 * step + 500 + i;  // later than its range
      db.add(OpRow{.stream = gpus[place],
                   .name = db.intern("gemm"),
                   .start_ns = start_ns,
                   .end_ns = start_ns + 10,
                   .range = inner[place][static_cast<size_t>(step)]});
    }
  }
  EXPECT_EQ(mark_steps(db).annotated, kProcesses * kSteps);
  EXPECT_EQ(
      test::count(db,
                  "op JOIN step ON step.id = step_id JOIN stream ON stream.id = stream_id WHERE "
                  "step.process_id = stream.process_id AND step.start_ns = op.start_ns"),
      kProcesses * kSteps);
}

// One rank whose thread runs these collectives (bytes of each, one step after the other), with a
// computation before each. Ranges around the steps, named as given.
struct Loop {
  std::vector<int64_t> bytes;
  int steps = 5;
  std::string range{};
  std::vector<int64_t> before{};  // collectives before the first step
};
TraceDb trace_of(const Loop& loop) {
  TraceDb db = TraceDb::create(":memory:");
  const StreamId stream = test::add_stream(db);
  int64_t t = 0;
  const auto run = [&](int64_t bytes) {
    db.add(
        OpRow{.stream = stream, .name = db.intern("compute"), .start_ns = t, .end_ns = t + 1000});
    const OpId op = db.add(OpRow{.stream = stream,
                                 .kind = OpKind::collective,
                                 .name = db.intern("MPI_Allreduce"),
                                 .start_ns = t + 1000,
                                 .end_ns = t + 1500});
    db.add(CollectiveRow{.op = op, .function = "allreduce", .bytes = bytes, .source = "pmpi"});
    t += 1500;
  };
  for (const int64_t bytes : loop.before) run(bytes);
  for (int step = 0; step < loop.steps; ++step) {
    const int64_t start_ns = t;
    for (const int64_t bytes : loop.bytes) run(bytes);
    if (loop.range.empty()) continue;
    db.add(RangeRow{
        .stream = stream, .name = db.intern(loop.range), .start_ns = start_ns, .end_ns = t});
  }
  return db;
}

int64_t most_collectives_of_a_step(const TraceDb& db) {
  return db
      .query_integer(
          "SELECT MAX(n) FROM (SELECT SUM(kind = 'collective') AS n FROM op WHERE "
          "step_id IS NOT NULL GROUP BY step_id)")
      .value_or(0);
}

TEST(MarkSteps, TheWholeSequenceOfCollectivesIsTheGuess) {
  TraceDb db =
      trace_of({.bytes = {2048, 2048, 2048, 2048, 2048, 16}, .before = {4, 512, 512, 512}});
  const StepSummary steps = mark_steps(db);
  EXPECT_EQ(steps.detected, 5);
  EXPECT_EQ(steps.annotated, 0);
  EXPECT_EQ(most_collectives_of_a_step(db), 6);
  EXPECT_EQ(test::count(db, "step WHERE source = 'detected'"), 5);
  EXPECT_EQ(test::count(db, "op WHERE step_id IS NOT NULL"), 5 * 12)
      << "the computation before a collective belongs to its step";
}

TEST(MarkSteps, OneAllreduceByItselfIsNoStep) {
  TraceDb db = trace_of({.bytes = {2048}, .steps = 60});
  EXPECT_EQ(mark_steps(db).all(), 0);
}

TEST(MarkSteps, TheCountOfCollectivesCanBeGiven) {
  TraceDb db =
      trace_of({.bytes = {8, 8, 8}, .steps = 20, .range = "decode_step", .before = {4, 4}});
  const StepSummary steps = mark_steps(db, {.collectives = 3});
  EXPECT_EQ(steps.counted, 20);
  EXPECT_EQ(steps.annotated, 0);
  EXPECT_EQ(most_collectives_of_a_step(db), 3);
  EXPECT_EQ(db.query_integer("SELECT MIN(start_ns) FROM step"), 3000)
      << "begins where the repetition does";
}

TEST(MarkSteps, AGivenCountFindsNothingWhereNobodyCommunicates) {
  TraceDb db = TraceDb::create(":memory:");
  const StreamId stream = test::add_stream(db);
  for (int64_t i = 0; i < 60; ++i) {
    db.add(OpRow{.stream = stream,
                 .name = db.intern("op " + std::to_string(i % 3)),
                 .start_ns = i * 100,
                 .end_ns = i * 100 + 50});
  }
  EXPECT_EQ(mark_steps(db, {.collectives = 3}).all(), 0);
}

TEST(MarkSteps, ThePeriodCanBeAskedForWhereRangesNameSteps) {
  TraceDb db = trace_of({.bytes = {8, 16, 8, 16, 32}, .range = "decode_step"});
  StepNames names({.by_period = true});
  EXPECT_EQ(mark_annotated_steps(db, ProcessId{1}, names).size(), 0u);
  EXPECT_EQ(mark_steps(db, {.by_period = true}).detected, 5);
  EXPECT_EQ(most_collectives_of_a_step(db), 5);
}

}  // namespace
}  // namespace preserve
