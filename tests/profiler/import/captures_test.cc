// SPDX-License-Identifier: Apache-2.0
// The capture of a graph and its replay as two files: kernels get what the framework said of them
// while it captured.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "tests/profiler/import/support.h"

namespace preserve::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string call(double start_us, const std::string& name, const std::string& kernel = "") {
  static int correlation = 1000;
  return kineto_event("cuda_runtime", name, start_us, 2, 70,
                      fmt::format(R"("cbid": 211, "correlation": {}{})", ++correlation,
                                  kernel.empty() ? "" : R"(, "kernel": ")" + kernel + "\""));
}

std::string product(double start_us, int tokens, int n, int k) {
  return kineto_event(
      "cpu_op", "aten::mm", start_us, 10, 70,
      fmt::format(R"("Input Dims": [[{}, {}], [{}, {}]], "Input type": ["c10::Half", "c10::Half"])",
                  tokens, k, k, n));
}

struct Names {
  std::string api = "cuda", first{}, second{}, reduce{}, copy = "MemcpyAsync";
};

// One layer of two products, the second one split, with an all-reduce between them.
std::vector<std::string> capture(double at, int tokens, const Names& names = {}) {
  const std::string launch = names.api + "LaunchKernel";
  return {call(at, names.api + "StreamBeginCapture"),
          product(at + 10, tokens, 512, 256),
          call(at + 12, launch, names.first),
          kineto_event("user_annotation", "record_param_comms", at + 30, 10, 70,
                       fmt::format(R"("Collective name": "allreduce", "In msg nelems": {}, )"
                                   R"("dtype": "Half", "Group size": 2)",
                                   tokens * 512)),
          call(at + 32, launch, names.api == "hip" ? "ncclDevKernel_AllReduce" : ""),
          call(at + 45, names.api + names.copy),
          product(at + 50, tokens, 256, 512),
          call(at + 52, launch, names.second),
          call(at + 55, launch, names.reduce),
          call(at + 70, names.api + "StreamEndCapture"),
          call(at + 80, launch)};  // after the capture
}

std::vector<std::string> replay(double at, int correlation, int tokens) {
  const auto kernel = [&](const std::string& name, double offset, int node) {
    return kineto_kernel(name, at + offset, 5, 7, correlation,
                         fmt::format(R"(, "graph node id": {})", node));
  };
  return {kineto_event("user_annotation",
                       fmt::format("execute_context_0(0)_generation_{0}({0})", tokens), at, 50, 70),
          kineto_launch(at + 5, correlation, "cudaGraphLaunch"),
          kernel("first_gemm", 10, 11),
          kernel("ncclDevKernel_AllReduce", 20, 12),
          kineto_event("gpu_memcpy", "Memcpy DtoD (Device -> Device)", at + 28, 1, 7,
                       fmt::format(R"("device": 0, "context": 1, "stream": 7, "correlation": {}, )"
                                   R"("bytes": 64, "graph node id": 13)",
                                   correlation)),
          kernel("second_gemm", 30, 14),
          kernel("splitKreduce_kernel", 36, 15)};
}

class ImportCaptures : public Importing {
 protected:
  std::filesystem::path write(const char* name, std::vector<std::vector<std::string>> parts,
                              const std::string& head = kineto_rank(0, 1)) {
    std::vector<std::string> events;
    for (auto& part : parts) events.insert(events.end(), part.begin(), part.end());
    return write_events(name, events, head);
  }
  std::filesystem::path replays(int tokens = 3) {
    return write("run.json", {replay(10'000, 21, tokens), replay(20'000, 22, tokens)});
  }
};

std::vector<std::string> products(const TraceDb& db) {
  return rows(db,
              "SELECT string.value, m || 'x' || n || 'x' || k FROM gemm JOIN op ON op.id = op_id "
              "JOIN string ON string.id = name_id ORDER BY start_ns");
}
std::vector<std::string> weights(const TraceDb& db) {
  return rows(
      db,
      "SELECT DISTINCT string.value, access.bytes FROM access JOIN tensor ON tensor.id = tensor_id "
      "JOIN string ON string.id = tensor.name_id WHERE tensor.role = 'weight' ORDER BY 1");
}

TEST_F(ImportCaptures, GiveOperandsAndMessagesToTheirReplays) {
  const auto captured = write("capture_rank_0.json", {capture(100, 4)});
  const auto run = replays();
  for (const auto& files : {std::vector{captured, run}, std::vector{run, captured}}) {
    const Imported imported = import_files(files);
    EXPECT_THAT(products(imported.db),
                ElementsAre("first_gemm 4x512x256", "second_gemm 4x256x512", "first_gemm 4x512x256",
                            "second_gemm 4x256x512"));
    EXPECT_THAT(weights(imported.db),
                ElementsAre("aten::mm#1.weight 262144", "aten::mm.weight 262144"));
    EXPECT_THAT(imported.rows("SELECT bytes, ranks, source FROM collective"),
                ElementsAre("4096 2 kineto_host", "4096 2 kineto_host"));
    EXPECT_EQ(imported.summary.processes, 1);
    EXPECT_THAT(imported.summary.notes, Contains(HasSubstr("1 of 1 graph that ran")));
  }
}

TEST_F(ImportCaptures, TheSizeThatHoldsTheTokensOfTheReplayCounts) {
  const auto captured = write("captures.json", {capture(100, 2), capture(400, 4), capture(700, 8)});
  EXPECT_THAT(products(import_files({captured, replays(3)}).db), Contains("first_gemm 4x512x256"));
  EXPECT_THAT(products(import_files({captured, replays(8)}).db), Contains("first_gemm 8x512x256"));
  EXPECT_THAT(products(import_files({captured, replays(9)}).db), IsEmpty());
}

TEST_F(ImportCaptures, OfSeveralThatFitNoneIsGuessed) {
  const auto captured = write("captures.json", {capture(100, 2), capture(400, 4)});
  const Imported imported = import_files({replays(0), captured});
  EXPECT_THAT(products(imported.db), IsEmpty());
  EXPECT_THAT(imported.summary.warnings, Contains(HasSubstr("nothing says for which batch")));
}

TEST_F(ImportCaptures, NamesOfKernelsCountMoreThanTheirOrder) {
  const Names names{"hip", "first_gemm", "second_gemm", "splitKreduce_kernel", "MemsetAsync"};
  std::vector<std::string> events = capture(100, 4, names);
  std::swap(events[1], events[6]);                                 // the order of a file is none
  events.insert(events.begin() + 3, call(113, "hipMemcpyAsync"));  // becomes nothing of the graph
  const auto captured = write("bs_4_rank0.json", {events});
  EXPECT_THAT(products(import_files({replays(), captured}).db), Contains("second_gemm 4x256x512"));
  const Names others{"hip", "first_gemm", "a_third_gemm", "other", "MemsetAsync"};
  const Imported apart = import_files(
      {replays(), write("other.json", {capture(100, 4, others), {call(300, "hipLaunchKernel")}})});
  EXPECT_THAT(products(apart.db), ElementsAre("first_gemm 4x512x256", "second_gemm 4x256x512",
                                              "first_gemm 4x512x256", "second_gemm 4x256x512"))
      << "the same number of calls in the same places";
}

TEST_F(ImportCaptures, OfAnotherGraphSayNothing) {
  std::vector<std::string> longer = capture(100, 4);
  longer.insert(longer.begin() + 3, call(20, "cudaLaunchKernel"));
  longer.insert(longer.begin() + 3, call(115, "cudaLaunchKernel"));
  const Imported imported = import_files({replays(), write("other.json", {longer})});
  EXPECT_THAT(products(imported.db), IsEmpty());
  EXPECT_THAT(imported.summary.warnings, Contains(HasSubstr("none has the kernels of 1 graph")));
  const auto rank1 = write("rank1.json", {capture(100, 4)}, kineto_rank(1, 1));
  EXPECT_THAT(products(import_files({replays(), rank1}).db), IsEmpty());
}

TEST_F(ImportCaptures, AFileOfBothIsJoinedWithItself) {
  const auto both = write("both.json", {capture(100, 4), replay(10'000, 21, 3)});
  EXPECT_THAT(products(import_files({both}).db),
              ElementsAre("first_gemm 4x512x256", "second_gemm 4x256x512"));
}

TEST_F(ImportCaptures, WhatRanBesideACaptureIsCountedAndLeftOut) {
  const auto captured =
      write("capture.json",
            {capture(100, 4), {kineto_launch(90, 5), kineto_kernel("warm", 95, 2, 7, 5)}});
  const Imported imported = import_files({replays(), captured});
  EXPECT_THAT(imported.summary.warnings, Contains(HasSubstr("1 operator of its own left out")));
  EXPECT_THAT(products(imported.db), testing::SizeIs(4));
  EXPECT_EQ(import_files({captured}).summary.kernels, 1) << "alone it is a trace";
}

TEST_F(ImportCaptures, ARunThatCapturesOnTheSideIsARankOfItsOwn) {
  std::vector<std::filesystem::path> files;
  for (const int rank : {0, 1}) {
    std::vector<std::string> eager;
    for (int i = 0; i < 10; ++i) {
      eager.push_back(kineto_launch(1000 + 20 * i, 50 + i));
      eager.push_back(kineto_kernel("eager", 1005 + 20 * i, 5, 7, 50 + i));
    }
    files.push_back(write(rank == 0 ? "start0.json" : "start1.json", {capture(100, 4), eager},
                          kineto_rank(rank, 2)));
  }
  EXPECT_EQ(import_files(files).summary.kernels, 20);
}

// Each process counts for itself, and how many tokens there are costs nothing again.
TEST_F(ImportCaptures, WhatIsTooMuchToCompareIsSaid) {
  std::vector<std::filesystem::path> files{
      write("captures.json", {capture(100, 2), capture(400, 4), capture(700, 8)},
            R"("distributedInfo": {"world_size": 2}, )")};
  for (const int rank : {0, 1}) {
    std::vector<std::vector<std::string>> replays;
    for (const int tokens : {1, 3, 4, 5}) {
      replays.push_back(replay(10'000 * tokens, 20 + tokens, tokens));
    }
    files.push_back(write(rank == 0 ? "rank0.json" : "rank1.json", replays, kineto_rank(rank, 2)));
  }
  // Three captures of five calls: 18 for the graph, and 6 for each number of tokens.
  const Imported enough = import_files(files, false, {.captured_calls = 18 + 4 * 6});
  EXPECT_THAT(products(enough.db), testing::SizeIs(2 * 4 * 2));
  EXPECT_THAT(enough.summary.warnings, testing::Not(Contains(HasSubstr("captures: "))));
  const Imported less = import_files(files, false, {.captured_calls = 17});
  EXPECT_THAT(products(less.db), IsEmpty());
  EXPECT_THAT(less.summary.warnings,
              Contains(HasSubstr("captures: too much to compare for 8 graphs that ran")));
  EXPECT_THAT(less.summary.warnings, testing::Not(Contains(HasSubstr("none has the kernels"))));
}

TEST_F(ImportCaptures, AloneAreRefused) {
  expect_refused({write("capture.json", {capture(100, 4)})},
                 "give the trace of their replays with it");
}

}  // namespace
}  // namespace preserve::test
