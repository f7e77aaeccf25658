// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "common/error.h"
#include "tests/profiler/import/support.h"

namespace preserve::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

std::string line(int sequence, int64_t bytes, int exec_us, const char* function = "AllReduce",
                 int rank = 0) {
  return fmt::format(
      R"({{"header": {{"id": "0x7f8c496ae9f661", "rank": {}, "n_ranks": 8, "nnodes": 1}}, )"
      R"("metadata": {{"inspector_output_format_version": "v4.0", "hostname": "secret-host", "pid": 9}}, )"
      R"("coll_perf": {{"coll": "{}", "coll_sn": {}, "coll_msg_size_bytes": {}, "coll_exec_time_us": {}, )"
      R"("coll_timing_source": "kernel_gpu", "coll_algobw_gbs": 2.1, "coll_busbw_gbs": 4.2}}}})"
      "\n",
      rank, function, sequence, bytes, exec_us);
}

std::string trace_of(const std::vector<double>& durations_us) {
  std::vector<std::string> events;
  double now = 100;
  int correlation = 1;
  for (const double duration : durations_us) {
    events.push_back(
        kineto_kernel("ncclDevKernel_AllReduce_Sum_bf16_RING_LL", now, duration, 7, correlation++));
    now += duration + 10;
  }
  return kineto_document(events, R"("distributedInfo": {"rank": 0, "world_size": 1}, )");
}

TEST(ImportInspector, FillsInWhatTheKernelsDoNotSay) {
  TemporaryDirectory directory;
  // The trace shows the second and third collective of the log: durations say which.
  const auto trace = write_text(directory, "trace.json", trace_of({20, 300}));
  const auto log =
      write_text(directory, "log.jsonl",
                 line(4, 1000, 5) + line(5, 2048, 21) + line(6, 4096, 290) + line(7, 8, 1));
  const auto imported = import_files(directory, {trace, log});
  EXPECT_THAT(column(imported.db,
                     "SELECT bytes || ' ' || sequence || ' ' || ranks || ' ' || source FROM "
                     "collective ORDER BY op_id"),
              ElementsAre("2048 5 8 nccl_inspector", "4096 6 8 nccl_inspector"));
  EXPECT_THAT(imported.summary.notes, Contains(HasSubstr("2 collectives matched")));
  EXPECT_THAT(
      column(imported.db, "SELECT kind || count FROM loss_nonzero WHERE source = 'nccl_inspector'"),
      ElementsAre("outside_trace2"));
}

TEST(ImportInspector, OrderOfFilesAndOfLinesDoesNotMatter) {
  TemporaryDirectory directory;
  const auto trace = write_text(directory, "trace.json", trace_of({20, 300}));
  const auto log = write_gzip(directory, "log", line(6, 4096, 290) + line(5, 2048, 21));
  EXPECT_THAT(column(import_files(directory, {log, trace}).db,
                     "SELECT bytes FROM collective ORDER BY op_id"),
              ElementsAre("2048", "4096"));
}

TEST(ImportInspector, OtherFunctionsDoNotMatch) {
  TemporaryDirectory directory;
  const auto trace = write_text(directory, "trace.json", trace_of({20}));
  const auto log = write_text(directory, "log", line(5, 2048, 21, "AllGather"));
  const auto imported = import_files(directory, {trace, log});
  EXPECT_THAT(column(imported.db, "SELECT source FROM collective"), ElementsAre("kernel_name"));
  EXPECT_THAT(imported.summary.warnings,
              Contains(HasSubstr("none of its 1 collectives could be matched")));
}

TEST(ImportInspector, AloneItIsNoTrace) {
  TemporaryDirectory directory;
  const auto log = write_text(directory, "log", line(5, 2048, 21));
  try {
    import_files(directory, {log});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("holds no operators"));
  }
}

TEST(ImportInspector, BadLinesAreRefusedOrCounted) {
  const std::string negative = line(5, -2048, 21), half = line(5, 2048, 21).substr(0, 90) + "\n";
  std::string endless(3 << 20, 'x');
  endless.back() = '\n';
  for (const std::string& bad :
       {std::string("{}\n"), std::string("nonsense\n"), negative, half, endless}) {
    TemporaryDirectory directory;
    const auto trace = write_text(directory, "trace.json", trace_of({20}));
    const auto log = write_text(directory, "log", line(4, 1024, 20) + bad);
    try {
      import_files(directory, {trace, log});
      FAIL() << "accepted: " << bad.substr(0, 80);
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("log:2: is not a line of an NCCL inspector log"));
    }
    const auto imported = import_files(directory, {trace, log}, true);
    EXPECT_THAT(column(imported.db, "SELECT bytes FROM collective"), ElementsAre("1024"));
    EXPECT_THAT(column(imported.db,
                       "SELECT kind || count FROM loss_nonzero WHERE source = 'nccl_inspector'"),
                ElementsAre("bad_line1"));
  }
}

}  // namespace
}  // namespace preserve::test
