// SPDX-License-Identifier: Apache-2.0
// Kineto JSON that is damaged, incomplete or hostile, and sets of ranks.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/profiler/import/support.h"

using namespace std::string_literals;

namespace preserve::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using ImportDamage = Importing;

std::string one_rank(int rank, int world_size, double shift_us) {
  std::vector<std::string> events;
  for (int i = 0; i < 5; ++i) {
    // Each rank arrives at another moment; all leave together.
    const double start = 1000 + 100 * i - 3 * rank, end = 1050 + 100 * i;
    events.push_back(kineto_kernel(
        "ncclDevKernel_AllReduce_Sum_f32_RING_LL", start + shift_us, end - start, 7, i + 1,
        fmt::format(
            R"(, "Collective name": "allreduce", "In msg nelems": 8, "dtype": "Float", "Process Group Name": "tp", "Seq": {})",
            i)));
    events.push_back(kineto_event("user_annotation", fmt::format("ProfilerStep#{}", i),
                                  990 + 100 * i + shift_us, 95, 1));
  }
  return kineto_document(events, kineto_rank(rank, world_size));
}

TEST_F(ImportDamage, ClocksOfRanksAreAlignedByTheirCollectives) {
  const auto imported = import_files(
      {write_text("a.json", one_rank(0, 2, 0)), write_text("b.json", one_rank(1, 2, 777))});
  EXPECT_THAT(imported.rows("SELECT COUNT(DISTINCT end_ns) FROM op"), ElementsAre("5"));
  EXPECT_EQ(imported.count("op JOIN step ON step.id = step_id WHERE op.start_ns BETWEEN "
                           "step.start_ns AND step.end_ns"),
            10);
  EXPECT_THAT(
      imported.summary.notes,
      testing::Contains(HasSubstr("rank 1: clock shifted by -777.00 us, ends of 5 collectives")));
}

TEST_F(ImportDamage, RanksMustBeDistinctAndComplete) {
  const auto a = write_text("a.json", one_rank(0, 3, 0));
  const auto b = write_text("b.json", one_rank(1, 3, 0));
  const auto again = write_text("c.json", one_rank(1, 3, 0));
  expect_refused({a, b}, "rank 2 is missing");
  expect_refused({a, b, again}, "both are rank 1");
  expect_refused({a, a}, "is given twice");
  const auto partial = import_files({a, b}, true);
  EXPECT_THAT(partial.losses(), ElementsAre("rank_missing1"));
}

TEST_F(ImportDamage, TruncatedTextIsRefusedOrImportedInPart) {
  const std::string whole =
      kineto_document({kineto_kernel("a", 1, 1, 7, 1), kineto_kernel("b", 3, 1, 7, 2)});
  const std::string cut = whole.substr(0, whole.size() - 60);
  expect_text_refused(cut, "stops in the middle");
  const auto imported = import_text(cut, true);
  EXPECT_EQ(imported.summary.kernels, 1);
  EXPECT_THAT(imported.losses(), ElementsAre("unreadable_rest1"));
  EXPECT_THAT(imported.rows("SELECT complete FROM process"), ElementsAre("0"));
}

TEST_F(ImportDamage, TruncatedGzipIsRefusedOrImportedInPart) {
  std::vector<std::string> events;
  events.reserve(3000);
  for (int i = 0; i < 3000; ++i)
    events.push_back(kineto_kernel(fmt::format("k{}", i * 7919), 10.0 * i, 1, 7, i + 1));
  const auto path = write_gzip("t.json.gz", kineto_document(events));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  expect_refused({path}, "the gzip data stops before its end");
  const auto imported = import_files({path}, true);
  EXPECT_GT(imported.summary.kernels, 100);
  EXPECT_LT(imported.summary.kernels, 3000);
}

TEST_F(ImportDamage, BadGpuRecordsAreRefusedOrCounted) {
  const auto event = [](const std::string& fields) {
    return R"({"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,)" + fields +
           R"(,"args":{"stream":7}})";
  };
  const struct {
    std::string fields, message, kind;
  } cases[] = {{R"("ts":10,"dur":-3)", "duration is negative", "negative_duration"},
               {R"("ts":"soon","dur":3)", "not a usable number", "bad_time"},
               {R"("ts":10,"dur":[3])", "not a usable number", "bad_time"},
               {R"("ts":1e300,"dur":3)", "not a usable number", "bad_time"},
               {R"("ts":9999999999999999999999,"dur":3)", "not a usable number", "bad_time"},
               {R"("dur":3)", "not a usable number", "bad_time"}};
  for (const auto& bad : cases) {
    const std::string text =
        kineto_document({kineto_kernel("good", 1, 1, 7, 1), event(bad.fields)});
    expect_text_refused(text, bad.message);
    const auto imported = import_text(text, true);
    EXPECT_EQ(imported.summary.kernels, 1) << bad.fields;
    EXPECT_THAT(imported.losses(), ElementsAre(bad.kind + "1"));
  }
}

// A bare array may end without its bracket: programs append to it and are killed.
TEST_F(ImportDamage, AnArrayWithoutItsEndIsWhole) {
  const std::string events =
      kineto_kernel("a", 1, 1, 7, 1) + ",\n" + kineto_kernel("b", 3, 1, 7, 2);
  for (const char* end : {"", ",", ",\n", "\n", "]", ",\n]"}) {
    const auto imported = import_text("[\n" + events + end);
    EXPECT_EQ(imported.summary.kernels, 2) << end;
    EXPECT_THAT(imported.losses(), IsEmpty());
  }
  expect_text_refused("[\n" + events.substr(0, events.size() - 9), "stops in the middle");
  // Within an object the format asks for it; in a file that is damaged nothing is known.
  expect_text_refused("{\"traceEvents\": [" + events, "--partial takes what came before");
  const auto gzip = write_gzip("cut.gz", "[\n" + events + ",\n" + events);
  std::filesystem::resize_file(gzip, std::filesystem::file_size(gzip) - 9);
  EXPECT_THROW(import_files({gzip}), Error);
}

TEST_F(ImportDamage, ADurationOverManySuccessorsIsImpossible) {
  const auto trace = [](double long_us, int successors, double successor_us) {
    std::vector<std::string> events{kineto_kernel("first", 500, 40, 7, 1),
                                    kineto_kernel("endless", 1000, long_us, 7, 2)};
    for (int i = 0; i < successors; ++i) {
      events.push_back(kineto_kernel("next", 1100 + 2 * i * successor_us, successor_us, 7, 3 + i));
    }
    return kineto_document(events);
  };
  const std::string impossible = trace(2'000'000, 20, 50);
  expect_text_refused(impossible, "'endless' on stream 7 lasts 2.00 s by its record");
  const auto partial = import_text(impossible, true);
  EXPECT_THAT(partial.losses(), ElementsAre("impossible_duration1"));
  EXPECT_THAT(partial.rows("SELECT COUNT(*), MAX(end_ns) FROM op"), ElementsAre("21 3050000"));
  EXPECT_THAT(partial.rows("SELECT end_ns FROM process"), ElementsAre("3050000"));
  // A dependent launch, a long operator that a few run beside, and one that nothing runs inside of.
  EXPECT_EQ(import_text(trace(150, 20, 50)).summary.kernels, 22);
  EXPECT_EQ(import_text(trace(20'000, 7, 50)).summary.kernels, 9);
  EXPECT_EQ(import_text(trace(2'000'000, 0, 50)).summary.kernels, 2);
  // Less long, but far longer than others of its name, and outside of graphs.
  const auto among_others = [](double long_us, int inside, const std::string& more) {
    std::vector<std::string> events;
    events.reserve(11);
    for (int i = 0; i < 10; ++i) events.push_back(kineto_kernel("k", 100 + 60 * i, 50, 7, i + 1));
    events.push_back(kineto_kernel("k", 1000, long_us, 7, 11, more));
    for (int i = 0; i < inside; ++i) {
      events.push_back(kineto_kernel("next", 1060 + 60 * i, 50, 7, 12 + i));
    }
    return kineto_document(events);
  };
  expect_text_refused(among_others(1500, 10, ""), "'k' on stream 7 lasts 1.50 ms");
  expect_text_refused(among_others(50'000, 1, ""), "lasts 50.00 ms");
  EXPECT_EQ(import_text(among_others(400, 5, "")).summary.kernels, 16);
  EXPECT_EQ(import_text(among_others(1500, 3, "")).summary.kernels, 14);
  // Seconds over a single one, and at the end of a stream of microseconds.
  expect_text_refused(trace(2'000'000, 1, 50), "lasts 2.00 s by its record");
  std::vector<std::string> events;
  events.reserve(11);
  for (int i = 0; i < 10; ++i) events.push_back(kineto_kernel("k", 100 + 60 * i, 50, 7, i + 1));
  events.push_back(kineto_kernel("endless", 700, 5e6, 7, 99));
  expect_text_refused(kineto_document(events), "'endless' on stream 7");
  // And alone on its stream, among short ones of its name.
  events.back() = kineto_kernel("k", 300, 5e6, 8, 99);
  expect_text_refused(kineto_document(events), "'k' on stream 8");
  // One of another name may wait or decode for seconds, one that communicates among others, too.
  events.back() = kineto_kernel("decode", 300, 5e6, 8, 99);
  EXPECT_EQ(import_events(events).summary.kernels, 11);
  const char* all_reduce = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL";
  events.back() = kineto_kernel(all_reduce, 300, 1.5e6, 8, 99);
  events.push_back(kineto_kernel(all_reduce, 200, 10, 9, 98));
  EXPECT_EQ(import_events(events).summary.kernels, 12);
}

TEST_F(ImportDamage, KernelsWithoutTimeStampsAreCountedNotPlacedAtZero) {
  const auto imported =
      import_events({kineto_kernel("a", 10, 5, 7, 1), kineto_kernel("b", 0, 0, 7, 2)});
  EXPECT_THAT(imported.losses(), ElementsAre("zero_timestamp1"));
}

TEST_F(ImportDamage, TracesWithoutGpuWorkAreRefusedUnlessPartial) {
  const std::string text =
      kineto_document({kineto_event("cpu_op", "aten::mm", 1, 5, 70),
                       kineto_event("user_annotation", "gloo:all_reduce", 2, 2, 70)});
  expect_text_refused(text, "holds no GPU activity");
  EXPECT_THAT(import_text(text, true).rows("SELECT name FROM range_named ORDER BY depth"),
              ElementsAre("aten::mm", "gloo:all_reduce"));
}

TEST_F(ImportDamage, OtherFilesAreRefusedByName) {
  expect_text_refused("", "is empty");
  expect_text_refused("hello", "is neither trace JSON");
  expect_text_refused(std::string("\0\1\2", 3), "is neither trace JSON");
  expect_text_refused(R"({"a": 1})", "has no traceEvents");
  expect_text_refused(R"({"traceEvents": []} {"b": 1})", "something follows");
  expect_text_refused(R"({"traceEvents": [1, "x", null, [2]]})", "holds no GPU activity");
  expect_text_refused(R"({"traceEvents": {"a": 1}})", "has no traceEvents");
  expect_text_refused("SQLite format 3\0garbage"s, "SQLite");
  expect_refused({directory_.path()}, "not a regular file");
  expect_refused({directory_ / "absent"}, "No such file");
}

TEST_F(ImportDamage, DeepNestingInArgumentsIsPassedOver) {
  const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  const auto imported =
      import_events({kineto_event("kernel", "k", 1, 1, 7, "\"x\": " + deep + ", \"stream\": 7"),
                     kineto_kernel("k", 5, 1, 7, 2)});
  EXPECT_EQ(imported.summary.kernels, 2);
}

TEST_F(ImportDamage, BytesOfZeroInNamesEndThem) {
  const auto imported = import_events({kineto_kernel(R"(a\u0000b)", 1, 1, 7, 1)});
  EXPECT_THAT(imported.rows("SELECT name FROM op_named"), ElementsAre("a"));
}

TEST_F(ImportDamage, FreeTextOfTheFileIsNotKept) {
  const std::string secret = "hf_PlantedTokenPlantedTokenPlanted";
  const auto imported = import_events(
      {kineto_kernel("k", 1, 1, 7, 1),
       R"({"ph": "M", "name": "process_labels", "pid": 7, "tid": 0, "ts": 0, "args": {"labels": ")" +
           secret + "\"}}",
       R"({"ph": "M", "name": "process_name", "pid": 7, "tid": 0, "ts": 0, "args": {"name": "/home/)" +
           secret + "/python3 --key " + secret + "\"}}",
       kineto_launch(0.5, 1)},
      R"("username": ")" + secret + R"(", "metadata": {"system": {"env": {"HF_TOKEN": ")" + secret +
          R"("}}}, "traceName": "/home/)" + secret + R"(/t.json", )");
  EXPECT_THAT(imported.rows("SELECT name FROM op_named"), ElementsAre("k"));
  const std::string bytes = [&] {
    std::string all;
    for (const std::string& table :
         imported.rows("SELECT name FROM sqlite_master WHERE type = 'table'")) {
      Query rows = imported.db.query("SELECT * FROM \"" + table + "\"");
      while (rows.next()) {
        for (int i = 0; i < 4; ++i) all += std::string(rows.text(i)) + "\n";
      }
    }
    return all;
  }();
  EXPECT_THAT(bytes, testing::Not(HasSubstr(secret)));
}

}  // namespace
}  // namespace preserve::test
