// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "tests/profiler/import/support.h"

namespace preserve::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

std::string line(int sequence, int64_t bytes, int exec_us, const char* function = "AllReduce",
                 int rank = 0, int ranks = 8) {
  return fmt::format(
      R"({{"header": {{"id": "0x7f8c496ae9f661", "rank": {}, "n_ranks": {}, "nnodes": 1}}, )"
      R"("metadata": {{"inspector_output_format_version": "v4.0", "hostname": "secret-host", "pid": 9}}, )"
      R"("coll_perf": {{"coll": "{}", "coll_sn": {}, "coll_msg_size_bytes": {}, "coll_exec_time_us": {}, )"
      R"("coll_timing_source": "kernel_gpu", "coll_algobw_gbs": 2.1, "coll_busbw_gbs": 4.2}}}})"
      "\n",
      rank, ranks, function, sequence, bytes, exec_us);
}

std::string trace_of(const std::vector<double>& durations_us, int rank = 0, int ranks = 1) {
  std::vector<std::string> events;
  double now = 100;
  int correlation = 1;
  for (const double duration : durations_us) {
    events.push_back(
        kineto_kernel("ncclDevKernel_AllReduce_Sum_bf16_RING_LL", now, duration, 7, correlation++));
    now += duration + 10;
  }
  return kineto_document(events, kineto_rank(rank, ranks));
}

class ImportInspector : public Importing {
 protected:
  Imported import(const std::string& trace, const std::string& log) {
    return import_files({write_text("trace.json", trace), write_text("log", log)});
  }
};

TEST_F(ImportInspector, FillsInWhatTheKernelsDoNotSay) {
  // The trace shows the second and third collective of the log: durations say which.
  const auto imported = import(trace_of({20, 300}), line(4, 1000, 5) + line(5, 2048, 21) +
                                                        line(6, 4096, 290) + line(7, 8, 1));
  EXPECT_THAT(imported.rows("SELECT bytes, sequence, ranks, source FROM collective ORDER BY op_id"),
              ElementsAre("2048 5 8 nccl_inspector", "4096 6 8 nccl_inspector"));
  EXPECT_THAT(imported.summary.notes, Contains(HasSubstr("2 collectives matched")));
  EXPECT_THAT(imported.losses("nccl_inspector"), ElementsAre("outside_trace2"));
}

TEST_F(ImportInspector, OrderOfFilesAndOfLinesDoesNotMatter) {
  const auto trace = write_text("trace.json", trace_of({20, 300}));
  const auto log = write_gzip("log", line(6, 4096, 290) + line(5, 2048, 21));
  EXPECT_THAT(import_files({log, trace}).rows("SELECT bytes FROM collective ORDER BY op_id"),
              ElementsAre("2048", "4096"));
}

TEST_F(ImportInspector, OtherFunctionsDoNotMatch) {
  const auto imported = import(trace_of({20}), line(5, 2048, 21, "AllGather"));
  EXPECT_THAT(imported.rows("SELECT source FROM collective"), ElementsAre("kernel_name"));
  EXPECT_THAT(imported.summary.warnings,
              Contains(HasSubstr("none of its 1 collectives could be matched")));
}

TEST_F(ImportInspector, LinesOfOtherKindsAreReadPast) {
  const std::string other =
      R"({"header": {"id": "0x1", "rank": 0, "n_ranks": 8}, "p2p_perf": {"p2p": "Send"}})"
      "\n"
      R"({"header": {"id": "0x1", "rank": 0, "n_ranks": 8}, "a_later_kind": {}})"
      "\n";
  const auto imported =
      import(trace_of({20, 300}), other + line(5, 2048, 21) + other + line(6, 4096, 290));
  EXPECT_THAT(imported.rows("SELECT bytes FROM collective ORDER BY op_id"),
              ElementsAre("2048", "4096"));
  EXPECT_THAT(imported.rows("SELECT kind || count FROM loss_nonzero"), Contains("no_collective4"));
  EXPECT_THAT(import(trace_of({20, 300}), other).summary.warnings,
              Contains(HasSubstr("log: has no collective in its 2 lines")));
}

// The plugin leaves out small messages; the numbers that are missing say which.
TEST_F(ImportInspector, SmallMessagesThatAreAbsentStayUnknown) {
  std::string lines;
  for (int sequence = 1; sequence < 20; sequence += 2) lines += line(sequence, 65536, 30);
  const auto imported = import(trace_of({8, 30, 8, 30, 8, 30}), lines);
  EXPECT_THAT(imported.rows("SELECT bytes FROM collective ORDER BY op_id"),
              ElementsAre("-", "65536", "-", "65536", "-", "65536"));
}

// NCCL counts the collectives of each function by themselves.
TEST_F(ImportInspector, SequencesMayCountByFunction) {
  double now = 100;
  std::vector<std::string> kernels;
  for (const char* function : {"AllReduce", "AllGather", "AllReduce", "AllReduce", "AllGather"}) {
    kernels.push_back(kineto_kernel(fmt::format("ncclDevKernel_{}_RING_LL", function), now, 20, 7,
                                    static_cast<int>(now)));
    now += 50;
  }
  EXPECT_THAT(import(kineto_document(kernels), line(0, 1000, 20) + line(0, 7000, 20, "AllGather") +
                                                   line(1, 2000, 20) + line(2, 3000, 20) +
                                                   line(1, 8000, 20, "AllGather"))
                  .rows("SELECT bytes FROM collective ORDER BY op_id"),
              ElementsAre("1000", "7000", "2000", "3000", "8000"));
}

// The rank of a line is the one in its communicator: of a part of the run it names no rank.
TEST_F(ImportInspector, ARankInAPartOfTheRunIsNoRank) {
  std::vector<std::filesystem::path> files;
  files.reserve(5);
  for (int rank = 0; rank < 4; ++rank) {
    files.push_back(write_text(fmt::format("{}.json", rank), trace_of({20, 300}, rank, 4)));
  }
  files.push_back(directory_ / "log");
  const auto with_ranks = [&](int ranks, int rank) {
    write_text("log", line(5, 2048, 21, "AllReduce", rank, ranks) +
                          line(6, 4096, 290, "AllReduce", rank, ranks));
    return import_files(files).rows(
        "SELECT process.rank, bytes FROM collective JOIN op ON op.id = op_id JOIN stream ON "
        "stream.id = stream_id JOIN process ON process.id = process_id WHERE bytes IS NOT NULL "
        "ORDER BY op_id");
  };
  EXPECT_THAT(with_ranks(2, 1), testing::IsEmpty());
  EXPECT_THAT(with_ranks(4, 1), ElementsAre("1 2048", "1 4096"));
}

// The second communicator explains the whole trace, the first one a part of it by chance.
class ImportInspectorLimits : public ImportInspector {
 protected:
  ImportInspectorLimits() {
    std::string lines;
    for (int i = 0; i < 100; ++i) lines += line(i, 1000, i == 50 ? 20 : 9'000);
    for (int i = 0; i < 300; ++i) {
      std::string other = line(i, 2048, i == 200 ? 20 : i == 201 ? 300 : 9'000);
      lines += other.replace(other.find("0x7f"), 4, "0x1f");
    }
    files_ = {write_text("trace.json", trace_of({20, 300})), write_text("log", lines)};
  }
  std::vector<std::filesystem::path> files_;
};

TEST_F(ImportInspectorLimits, TheBestCommunicatorCountsWithinThem) {
  EXPECT_THAT(import_files(files_).rows("SELECT bytes FROM collective"),
              ElementsAre("2048", "2048"));
}

TEST_F(ImportInspectorLimits, NothingIsGuessedOfALogThatIsTooLong) {
  for (const import::ComparisonLimits& limits :
       {import::ComparisonLimits{.per_log = 600}, import::ComparisonLimits{.per_communicator = 600},
        import::ComparisonLimits{.per_communicator = 0}}) {
    const auto imported = import_files(files_, false, limits);
    EXPECT_THAT(imported.rows("SELECT source FROM collective"),
                ElementsAre("kernel_name", "kernel_name"));
    EXPECT_THAT(imported.summary.warnings,
                Contains(HasSubstr("log: too long to be compared with the trace")));
    EXPECT_THAT(imported.summary.warnings, Not(Contains(HasSubstr("could be matched"))));
    EXPECT_THAT(imported.losses("nccl_inspector"), ElementsAre("outside_trace400"));
  }
}

// Each process writes a log of its own.
TEST_F(ImportInspector, EveryLogIsUsed) {
  std::vector<std::filesystem::path> files;
  for (const int rank : {0, 1, 2}) {
    files.push_back(write_text(fmt::format("{}.json", rank), trace_of({20, 300}, rank, 3)));
    files.push_back(
        write_text(fmt::format("{}.log", rank), line(5, 100 + rank, 21, "AllReduce", rank, 3)));
  }
  const auto imported = import_files(files);
  EXPECT_THAT(imported.rows("SELECT bytes FROM collective WHERE bytes > 0 ORDER BY op_id"),
              ElementsAre("100", "101", "102"));
}

TEST_F(ImportInspector, AloneItIsNoTrace) {
  const auto log = write_text("log", line(5, 2048, 21));
  expect_refused({log}, "holds no operators");
}

TEST_F(ImportInspector, BadLinesAreRefusedOrCounted) {
  const std::string negative = line(5, -2048, 21), half = line(5, 2048, 21).substr(0, 90) + "\n";
  std::string endless(3 << 20, 'x');
  endless.back() = '\n';
  for (const std::string& bad :
       {std::string("{}\n"), std::string("nonsense\n"), negative, half, endless}) {
    SCOPED_TRACE(bad.substr(0, 80));
    const std::vector files{write_text("trace.json", trace_of({20})),
                            write_text("log", line(4, 1024, 20) + bad)};
    expect_refused(files, "log:2: is not a line of an NCCL inspector log");
    const auto imported = import_files(files, true);
    EXPECT_THAT(imported.rows("SELECT bytes FROM collective"), ElementsAre("1024"));
    EXPECT_THAT(imported.losses("nccl_inspector"), ElementsAre("bad_line1"));
  }
}

}  // namespace
}  // namespace preserve::test
