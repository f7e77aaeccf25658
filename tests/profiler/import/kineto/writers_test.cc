// SPDX-License-Identifier: Apache-2.0
// Chrome traces of other writers than Kineto: what says that an event ran on a GPU differs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "profiler/import/kineto/writers.h"
#include "tests/profiler/import/support.h"

namespace preserve::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ImportWriters : public Importing {
 protected:
  void refuse(const std::vector<std::string>& events, const std::string& part) {
    expect_text_refused(kineto_document(events), part);
  }
};

// "kind name duration" of all operators in order.
std::vector<std::string> operators(const TraceDb& db) {
  return rows(db, "SELECT kind, name, end_ns - start_ns FROM op_named ORDER BY start_ns");
}
std::string thread_name(int pid, int tid, const std::string& name) {
  return fmt::format(
      R"({{"ph": "M", "pid": {}, "tid": {}, "name": "thread_name", "args": {{"name": "{}"}}}})",
      pid, tid, name);
}
std::string span(int pid, int tid, const std::string& name, int start_us, int dur_us,
                 const std::string& arguments = "", const std::string& more = "") {
  return fmt::format(
      R"({{"ph": "X", "pid": {}, "tid": {}, "name": "{}", "ts": {}, "dur": {}, "args": {{{}}}{}}})",
      pid, tid, name, start_us, dur_us, arguments, more);
}

TEST_F(ImportWriters, JaxSaysItByTheNameOfTheProcess) {
  const auto imported =
      import_events({process_name("1", "/device:GPU:3"), thread_name(1, 13, "Stream #13(Compute)"),
                     thread_name(1, 14, "Stream #14(MemcpyD2H)"), thread_name(1, 20, "XLA Modules"),
                     thread_name(1, 21, "XLA Ops"), process_name("701", "/host:CPU"),
                     span(701, 1, "cuLaunchKernel", 90, 5, R"("correlation_id": "0")"),
                     span(701, 1, "$core.py:12 bind", 80, 50),
                     span(1, 13, "gemm", 100, 40, R"("hlo_op": "dot.1", "correlation_id": "0")"),
                     span(1, 13, "ncclDevKernel_AllReduce_Sum_bf16_RING_LL", 141, 20),
                     span(1, 14, "MemcpyD2H", 170, 3), span(1, 20, "jit_f", 100, 61),
                     span(1, 21, "all-reduce.1", 141, 20), "{}"});
  EXPECT_THAT(
      operators(imported.db),
      ElementsAre("compute gemm 40000", "collective ncclDevKernel_AllReduce_Sum_bf16_RING_LL 20000",
                  "copy MemcpyD2H 3000"));
  EXPECT_THAT(
      imported.rows("SELECT count FROM loss WHERE source = 'launch' AND kind = 'unmatched'"),
      ElementsAre("2"));  // the copy and the collective say no launch
  EXPECT_THAT(imported.losses(), IsEmpty());
}

TEST_F(ImportWriters, OnATpuTheOperatorsOfXlaAreWhatRan) {
  const auto imported = import_events(
      {process_name("1", "/device:TPU:0"), thread_name(1, 1, "Steps"),
       thread_name(1, 2, "XLA Modules"), thread_name(1, 3, "XLA Ops"), span(1, 1, "0", 10, 100),
       span(1, 2, "jit_f", 10, 90), span(1, 3, "while.4", 10, 90), span(1, 3, "fusion.1", 10, 50),
       span(1, 3, "all-gather.2", 61, 30)});
  EXPECT_THAT(operators(imported.db),
              ElementsAre("compute fusion.1 50000", "collective all-gather.2 30000"));
}

// torch_npu and msprof: times in quotes, tasks by their type, collectives beside their parts.
TEST_F(ImportWriters, AscendKernelsAndCollectives) {
  const auto task = [](const char* name, const char* type, const char* start, int stream) {
    return fmt::format(
        R"({{"name": "{}", "pid": 5, "tid": {}, "ts": "{}", "dur": 10.5, "ph": "X", )"
        R"("args": {{"Task Type": "{}", "connection_id": 7}}}})",
        name, stream, start, type);
  };
  const auto imported = import_events(
      {process_name("5", "Ascend Hardware"), process_name("6", "Communication"),
       process_name("7", "Overlap Analysis"), process_name("8", "CANN"),
       thread_name(5, 2, "Stream 2"), thread_name(6, 0, "Group 0 Communication"),
       thread_name(6, 1, "Plane 0"), span(8, 4, "launch", 1699999990, 5, R"("connection_id": 7)"),
       task("MatMulV2", "AI_CORE", "1700000000.125", 2),
       task("EVENT_WAIT", "EVENT_WAIT_SQE", "1700000020.000", 2),
       task("MemcpyAsync", "SDMA_SQE", "1700000040.000", 2),
       span(6, 0, "hcom_allReduce__123_0_1", 1700000060, 30,
            R"("count": 4096, "data_type": "FP16")"),
       span(6, 1, "Reduce_Inline", 1700000061, 20), span(7, 0, "Computing", 1700000000, 10)});
  EXPECT_THAT(operators(imported.db),
              ElementsAre("compute MatMulV2 10500", "copy MemcpyAsync 10500",
                          "collective hcom_allReduce__123_0_1 30000"));
  EXPECT_THAT(imported.rows("SELECT start_ns FROM op_named WHERE name = 'MatMulV2'"),
              ElementsAre("1700000000125"));
  EXPECT_THAT(imported.rows("SELECT function, bytes FROM collective"),
              ElementsAre("allreduce 8192"));
  EXPECT_THAT(imported.rows("SELECT 1 FROM process"), ElementsAre("1"));
}

TEST_F(ImportWriters, IntelKernelsAndLaunches) {
  const auto imported = import_events(
      {span(100, 100, "zeCommandListAppendLaunchKernel", 980, 3, R"("correlation": 1)",
            R"(, "cat": "xpu_driver")"),
       span(0, 64, "oneccl_allreduce_small<float>", 1000, 25, R"("device": 0, "correlation": 1)",
            R"(, "cat": "kernel")"),
       process_name("4000", "DEVICE<GPU>"),
       span(4000, 1, "gemm[SIMD16]", 1100, 40, R"("id": "0")", R"(, "cat": "gpu_op")"),
       span(4000, 1, "zeCommandListAppendMemoryCopy(M2D)[64 bytes]", 1150, 4, R"("id": "1")",
            R"(, "cat": "gpu_op")")});
  EXPECT_THAT(
      operators(imported.db),
      ElementsAre("collective oneccl_allreduce_small<float> 25000", "compute gemm[SIMD16] 40000",
                  "copy zeCommandListAppendMemoryCopy(M2D)[64 bytes] 4000"));
  EXPECT_THAT(imported.rows("SELECT SUM(count) FROM loss WHERE kind = 'unmatched'"),
              ElementsAre("2"));
  refuse({process_name("4001", "HOST<node>"), span(4001, 1, "zeCommandListAppendLaunchKernel", 1100,
                                                   40, R"("id": "0")", R"(, "cat": "cpu_op")")},
         "it looks like a trace of Intel's unitrace");
}

TEST_F(ImportWriters, ProcessesWhoseIdIsAWord) {
  const auto imported = import_events(
      {R"({"name": "aten::mm", "ph": "X", "ts": 10, "dur": 9, "tid": 1, "pid": "CPU functions", "args": {}})",
       R"({"name": "aten::mm", "ph": "X", "ts": 15, "dur": 40, "tid": 0, "pid": "CUDA functions", "args": {}})"});
  EXPECT_THAT(operators(imported.db), ElementsAre("compute aten::mm 40000"));
}

TEST_F(ImportWriters, RocprofWritesTimesInQuotes) {
  const auto imported = import_events(
      {process_name("6", "GPU0"), process_name("2", "CPU HIP API"),
       R"({"ph": "X", "name": "Cijk_Ailk_MT64", "pid": 6, "tid": "0", "ts": "100", "dur": "20", "args": {}})"});
  EXPECT_THAT(operators(imported.db), ElementsAre("compute Cijk_Ailk_MT64 20000"));
}

TEST_F(ImportWriters, BeginAndEndAreOneEvent) {
  const auto event = [](char phase, const char* name, double at_us) {
    return fmt::format(
        R"({{"ph": "{}", "cat": "kernel", "name": "{}", "pid": 0, "tid": 7, "ts": {}, "args": {{}}}})",
        phase, name, at_us);
  };
  const auto imported = import_events({event('B', "outer_kernel", 10.25), event('B', "inner", 20),
                                       event('E', "inner", 30), event('E', "outer_kernel", 50.75),
                                       event('E', "surplus", 60), event('B', "cut", 70)});
  EXPECT_THAT(operators(imported.db),
              ElementsAre("compute outer_kernel 40500", "compute inner 10000"));
  EXPECT_THAT(imported.losses(), ElementsAre("end_without_begin1", "unfinished_event1"));
}

TEST_F(ImportWriters, WhatIsNotUnderstoodIsCountedAndNamed) {
  const std::string strange = span(9, 1, "tick", 200, 5, "", R"(, "cat": "npu_magic")");
  const auto imported = import_events({kineto_kernel("gemm", 10, 5, 7, 1), strange, strange});
  EXPECT_THAT(imported.losses(), ElementsAre("unknown_event2"));
  EXPECT_THAT(imported.summary.warnings, testing::Contains(HasSubstr("2 of category 'npu_magic'")));
}

// Asynchronous events of NCCL's example plugin: no GPU work that could be placed, but not nothing.
TEST_F(ImportWriters, AFileWhoseWorkIsNotSeenIsNotCalledEmpty) {
  const auto event = [](char phase, const char* category) {
    return fmt::format(
        R"({{"ph": "{}", "cat": "{}", "name": "AllReduce", "id": 1, "pid": 9, "tid": 1, "ts": 5}})",
        phase, category);
  };
  const std::vector<std::string> events{event('b', "COLL"), event('b', "GPU"), event('e', "GPU"),
                                        event('e', "COLL")};
  refuse(events, "no GPU activity is recognised in its 4 events");
  refuse(events, "it looks like a trace of NCCL's example profiler plugin");
  refuse(events, "1 of category 'COLL' (phase b), 1 of category 'GPU' (phase b)");
  const auto imported = import_events(events, "", true);
  EXPECT_THAT(imported.losses(), ElementsAre("unknown_event2"));
  refuse({event('S', "GPU"), event('F', "GPU")}, "1 of category 'GPU' (phase S)");
  refuse({kineto_event("cpu_op", "aten::mm", 1, 2, 3)},
         "holds no GPU activity in its 1 events, of them 1 of the host; it looks like a trace of "
         "the PyTorch profiler without GPU activities");
}

TEST(Writers, RolesOfProcesses) {
  using import::Role;
  EXPECT_EQ(import::role_of_process("/device:GPU:12").device, 12);
  EXPECT_EQ(import::role_of_process("/job:w/task:3/device:GPU:1/stream:7").device, 1);
  EXPECT_EQ(import::role_of_process("host2 /device:GPU:0").device, std::nullopt);
  EXPECT_EQ(import::role_of_process("GPU7").role, Role::device);
  EXPECT_EQ(import::role_of_process("GPUserver").role, Role::unknown);
  EXPECT_EQ(import::role_of_process("python3").role, Role::host);
  EXPECT_EQ(import::role_of_process("trainer").role, Role::unknown);
}

}  // namespace
}  // namespace preserve::test
