// SPDX-License-Identifier: Apache-2.0
// Kineto JSON: what real traces are like, one peculiarity per test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fmt/format.h>

#include "tests/profiler/import/support.h"

namespace preserve::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using ImportKineto = Importing;

TEST_F(ImportKineto, KernelsBecomeOperatorsWithTheirLaunch) {
  const auto imported =
      import_events({kineto_kernel("gemm_kernel", 110, 5.25, 7, 1),
                     kineto_event("cpu_op", "aten::mm", 99, 9, 70), kineto_launch(100, 1)});
  EXPECT_THAT(imported.rows("SELECT start_ns, end_ns, correlation_id FROM op"),
              ElementsAre("110000 115250 1"));
  EXPECT_THAT(imported.rows("SELECT name FROM range_named"), ElementsAre("aten::mm"));
  EXPECT_THAT(imported.rows("SELECT native_id FROM stream WHERE kind = 'gpu'"), ElementsAre("7"));
  EXPECT_EQ(imported.summary.kernels, 1);
}

TEST_F(ImportKineto, ATextThatIsCutIsSaid) {
  const auto imported =
      import_events({kineto_kernel("k", 110, 5, 7, 1), kineto_launch(100, 1),
                     kineto_event("cpu_op", std::string(600 << 10, 'n'), 99, 9, 70)});
  EXPECT_THAT(imported.summary.warnings, testing::Contains(HasSubstr("1 text cut: longer than")));
}

TEST_F(ImportKineto, BareArrayOfEventsIsATrace) {
  const auto imported = import_text("[" + kineto_kernel("k", 1, 1, 7, 1) + ",\n]");
  EXPECT_EQ(imported.summary.kernels, 1);
}

TEST_F(ImportKineto, CompressedFilesAreTheSameTrace) {
  const std::string text =
      kineto_document({kineto_kernel("k", 1, 1, 7, 1), kineto_kernel("k", 3, 1, 7, 2)});
  for (const auto& path : {write_gzip("a.bin", text), write_zstd("b.bin", text)}) {
    EXPECT_EQ(import_files({path}).summary.kernels, 2) << path;
  }
}

TEST_F(ImportKineto, OverlappingKernelsOfOneStreamStayAsTheyWere) {
  const auto imported =
      import_events({kineto_kernel("a", 10, 5, 7, 1), kineto_kernel("b", 14.2, 5, 7, 2),
                     kineto_kernel("c", 18.9, 5, 7, 3)});
  EXPECT_THAT(imported.rows("SELECT end_ns - start_ns FROM op ORDER BY id"),
              ElementsAre("5000", "5000", "5000"));
  EXPECT_THAT(imported.rows("SELECT attributed_ns FROM stream_coverage"), ElementsAre("13900"));
}

TEST_F(ImportKineto, ReplaysOfOneGraphAreRecognisedAndNumbered) {
  std::vector<std::string> events;
  int start = 1000;
  for (const int correlation : {50, 60}) {
    events.push_back(kineto_launch(start - 10, correlation, "cudaGraphLaunch"));
    for (const char* name : {"norm", "gemm", "attention", "gemm"}) {
      events.push_back(kineto_kernel(name, start, 4, 7, correlation));
      start += 5;
    }
    // A second stream inside the graph, at another moment of each replay.
    events.push_back(
        kineto_kernel("copy_kernel", start - (correlation == 50 ? 9 : 14), 3, 8, correlation));
    start += 100;
  }
  const auto imported = import_events(events);
  EXPECT_THAT(imported.rows("SELECT DISTINCT graph_id FROM op"), ElementsAre("1"));
  EXPECT_THAT(imported.rows("SELECT group_concat(graph_node_id) FROM (SELECT * FROM op ORDER BY "
                            "id) GROUP BY correlation_id"),
              ElementsAre("0,1,2,3,4", "0,1,2,3,4"));
}

TEST_F(ImportKineto, MissingLaunchesAreCountedAndTheKernelsKept) {
  const auto imported = import_events(
      {kineto_kernel("a", 10, 5, 7, 1), kineto_kernel("b", 20, 5, 7, 2), kineto_launch(9, 1)});
  EXPECT_EQ(imported.summary.kernels, 2);
  EXPECT_THAT(imported.rows("SELECT source, kind, count FROM loss_nonzero"),
              ElementsAre("launch unmatched 1"));
}

TEST_F(ImportKineto, RecycledCorrelationIdsGoToTheLastLaunchBefore) {
  const auto imported =
      import_events({kineto_event("cpu_op", "first", 5, 10, 70), kineto_launch(6, 1),
                     kineto_kernel("a", 20, 5, 7, 1), kineto_event("cpu_op", "second", 100, 10, 70),
                     kineto_launch(101, 1), kineto_kernel("a", 110, 5, 7, 1)});
  EXPECT_THAT(imported.rows("SELECT range_named.name FROM op JOIN range_named ON range_named.id = "
                            "op.range_id ORDER BY op.start_ns"),
              ElementsAre("first", "second"));
  EXPECT_THAT(imported.rows("SELECT 1 FROM op WHERE graph_id IS NOT NULL"), IsEmpty());
}

TEST_F(ImportKineto, KernelsWithoutCorrelationAreNoGraph) {
  const auto imported =
      import_events({kineto_kernel("a", 10, 5, 7, 0), kineto_kernel("b", 20, 5, 7, 0)});
  EXPECT_THAT(imported.rows("SELECT 1 FROM op WHERE graph_id IS NOT NULL"), IsEmpty());
}

TEST_F(ImportKineto, GraphIdsOfZeroMeanNoGraph) {
  const auto imported = import_events(
      {kineto_kernel("a", 10, 5, 7, 1, R"(, "graph id": 0, "graph node id": 0)"),
       kineto_kernel("b", 20, 5, 7, 2, R"(, "graph id": 5000000000, "graph node id": 3)")});
  EXPECT_THAT(imported.rows("SELECT ifnull(graph_id || ':' || graph_node_id, '-') FROM op"),
              ElementsAre("-", "5000000000:3"));
}

TEST_F(ImportKineto, StepsOfFilesWithoutAHostComeFromTheGpusAnnotations) {
  std::vector<std::string> events;
  for (int step = 0; step < 3; ++step) {
    const double start = 100 + 50 * step;
    events.push_back(kineto_kernel("a", start + 1, 5, 7, 2 * step + 1));
    events.push_back(kineto_kernel("b", start + 9, 5, 7, 2 * step + 2));
    events.push_back(
        kineto_event("gpu_user_annotation", fmt::format("ProfilerStep#{}", step), start, 40, 7));
  }
  EXPECT_THAT(import_events(events).rows("SELECT COUNT(*) FROM op GROUP BY step_id"),
              ElementsAre("2", "2", "2"));
  // With a host, its annotation counts, once.
  events.push_back(kineto_event("user_annotation", "ProfilerStep#0", 90, 20, 70));
  EXPECT_THAT(import_events(events).rows("SELECT COUNT(*) FROM step"), ElementsAre("1"));
}

TEST_F(ImportKineto, KernelsOfNoLengthAreKept) {
  EXPECT_EQ(import_events({kineto_kernel("a", 10, 0, 7, 1)}).summary.kernels, 1);
}

TEST_F(ImportKineto, TimesAreExact) {
  const struct {
    const char *of, *text, *found;
  } all[] = {
      {"an offset",
       R"({"baseTimeNanoseconds": 1719853884000000000, "traceEvents": [
           {"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,"ts":1212075548353.304,"dur":173209.713,
            "args":{"stream":7}}]})",
       "1721065959548353304 173209713"},
      {"an offset behind the events",
       R"({"traceEvents": [{"ph":"X","cat":"kernel","name":"k","ts":1,"dur":2,"args":{"stream":7}}],
           "baseTimeNanoseconds": 1000000})",
       "1001000 2000"},
      {"whole nanoseconds",
       R"({"traceEvents": [{"ph":"X","cat":"kernel","name":"k","ts":1669783687464181123,"dur":2500,
                            "args":{"stream":7}}]})",
       "1669783687464181123 2500"}};
  for (const auto& [of, text, found] : all) {
    EXPECT_THAT(import_text(text).rows("SELECT start_ns, end_ns - start_ns FROM op"),
                ElementsAre(found))
        << of;
  }
}

TEST_F(ImportKineto, SchemaOf2021) {
  const auto imported = import_text(R"json({"schemaVersion": 1, "traceEvents": [
    {"ph": "X", "cat": "Operator", "name": "aten::mm", "pid": 9, "tid": "70", "ts": 90, "dur": 20,
     "args": {"Input dims": [[4, 8], [8, 2]], "Input type": ["float", "float"], "External id": 2}},
    {"ph": "X", "cat": "Runtime", "name": "cudaLaunchKernel", "pid": 9, "tid": "70", "ts": 95, "dur": 2,
     "args": {"cbid": 211, "correlation": 5, "external id": 2}},
    {"ph": "f", "id": 5, "pid": 0, "tid": "stream 7", "ts": 100, "cat": "async", "name": "launch"},
    {"ph": "X", "cat": "Kernel", "name": "sgemm", "pid": 0, "tid": "stream 7", "ts": 100, "dur": 3,
     "args": {"device": 0, "context": 1, "stream": 7, "correlation": 5}},
    {"ph": "X", "cat": "Memset", "name": "Memset (Device)", "pid": 0, "tid": "stream 7", "ts": 104,
     "dur": 1, "args": {"device": 0, "context": 1, "stream": 7, "correlation": 6, "bytes": 64}}]})json");
  EXPECT_THAT(imported.rows("SELECT kind FROM op ORDER BY start_ns"),
              ElementsAre("compute", "copy"));
  EXPECT_THAT(imported.rows("SELECT name FROM range_named"), ElementsAre("aten::mm"));
  EXPECT_THAT(imported.rows("SELECT bytes FROM access_named WHERE tensor LIKE '%weight'"),
              ElementsAre("64"));
  EXPECT_THAT(imported.rows("SELECT CAST(value AS INTEGER) FROM counter"), ElementsAre("64"));
}

TEST_F(ImportKineto, HipIsAnImportLikeAnyOther) {
  const auto imported =
      import_text(R"({"deviceProperties": [{"id": 0, "name": "AMD Instinct MI300X",
      "totalGlobalMem": 206141652992, "numSms": 304}], "traceEvents": [
    {"ph":"X","cat":"cuda_runtime","name":"hipLaunchKernel","pid":2,"tid":2,"ts":5,"dur":3,
     "args":{"External id":1,"kernel":"k","correlation":57189}},
    {"ph":"X","cat":"kernel","name":"Cijk_Alik_Bljk","pid":5,"tid":3,"ts":11.118,"dur":42.079,
     "args":{"device":5,"stream":3,"correlation":57189,"kind":"Dispatch Kernel","grid":"[16, 1, 1]"}}]})");
  EXPECT_THAT(imported.rows("SELECT name, units FROM device"),
              ElementsAre("AMD Instinct MI300X 304"));
  EXPECT_THAT(imported.rows("SELECT kind FROM loss_nonzero"), IsEmpty());
}

TEST_F(ImportKineto, WhatSaysOfACollective) {
  // A host's call and the launch in it of the kernel.
  const auto called = [](const char* call, const char* arguments, const char* kernel) {
    return std::vector{kineto_event("cpu_op", call, 7, 12, 70, arguments), kineto_launch(9, 1),
                       kineto_kernel(kernel, 20, 5, 7, 1)};
  };
  const struct {
    const char* by;
    std::vector<std::string> events;
    const char* found;
  } all[] = {
      {"metadata of the kernel",
       {kineto_kernel(
           "ncclDevKernel_AllReduce_Sum_bf16_RING_LL", 10, 5, 7, 1,
           R"(, "Collective name": "allreduce", "In msg nelems": 4096, "Out msg nelems": 4096,
              "Group size": 8, "dtype": "BFloat16", "Process Group Name": "tp", "Process Group Ranks": "[0, 1, ...]")")},
       "allreduce 8192 8 kineto 0 1 1"},
      {"metadata of the kernel: what one rank receives",
       {kineto_kernel(
           "ncclDevKernel_ReduceScatter_Sum_f32_RING_LL", 10, 5, 7, 1,
           R"(, "Collective name": "_reduce_scatter_base", "In msg nelems": 800, "Out msg nelems": 100, "dtype": "Float")")},
       "reduce_scatter 400 - kineto - 0 1"},
      {"metadata of the host's call",
       called(
           "record_param_comms",
           R"("Collective name": "allgather", "In msg nelems": 10, "dtype": "Half", "Group size": 2)",
           "ncclDevKernel_AllGather_RING_LL"),
       "allgather 20 2 kineto_host - 0 0"},
      {"shapes of the host's call",
       called("c10d::alltoall_base_",
              R"("Input Dims": [[6144], [6144], [], []], "Input type": ["float", "float", "", ""])",
              "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t"),
       "alltoall 24576 - shapes - 0 0"},
      {"its name, and shapes",
       called(
           "_C_custom_ar::all_reduce",
           R"("Input Dims": [[], [16, 4096], []], "Input type": ["Scalar", "c10::BFloat16", ""])",
           "void vllm::cross_device_reduce_1stage<nv_bfloat16, 2>"),
       "allreduce 131072 - shapes - 0 0"},
      {"its name",
       {kineto_kernel("multimem_all_reduce_kernel", 30, 5, 7, 2)},
       "allreduce - - kernel_name - 0 0"}};
  for (const auto& [by, events, found] : all) {
    const Imported imported = import_events(events);
    EXPECT_THAT(imported.rows("SELECT function, bytes, ranks, source, sequence, communicator IS "
                              "NOT NULL, confidence > 0.9 FROM collective"),
                ElementsAre(found))
        << by;
    EXPECT_THAT(imported.rows("SELECT kind FROM op"), ElementsAre("collective")) << by;
  }
}

TEST_F(ImportKineto, ShapesOfALinearBecomeAccesses) {
  const auto imported = import_events(
      {kineto_event("python_function", "nn.Module: Mlp_3", 1, 50, 70),
       kineto_event("cpu_op", "aten::addmm", 7, 20, 70,
                    R"("Input Dims": [[1024], [16, 512], [512, 1024], [], []],
                       "Input type": ["c10::BFloat16", "c10::BFloat16", "c10::BFloat16", "Scalar", "Scalar"])"),
       kineto_launch(9, 1), kineto_kernel("sm90_xmma_gemm_bf16", 20, 5, 7, 1), kineto_launch(11, 2),
       kineto_kernel("void splitKreduce_kernel<32>", 26, 2, 7, 2)});
  // Without a step names cannot count within one; the bytes are known all the same.
  EXPECT_THAT(
      imported.rows("SELECT tensor, bytes, mode, source FROM access_named ORDER BY operand"),
      ElementsAre("outside steps/Mlp_3/aten::addmm.weight 1048576 read shapes",
                  "outside steps/Mlp_3/aten::addmm.bias 2048 read shapes",
                  "outside steps/Mlp_3/aten::addmm.input 16384 read shapes",
                  "outside steps/Mlp_3/aten::addmm.output 32768 write shapes"));
}

std::vector<std::string> decode_steps(int steps, int layers, bool annotate) {
  std::vector<std::string> events;
  int correlation = 1;
  double now = 1000;
  for (int step = 0; step < steps; ++step) {
    if (annotate) {
      events.push_back(kineto_event("user_annotation", fmt::format("step[DECODE bs={}]", 16 + step),
                                    now - 50, 40, 70));
    }
    events.push_back(kineto_launch(now - 40, correlation, "cudaGraphLaunch"));
    for (int layer = 0; layer < layers; ++layer) {
      for (const char* name :
           {"rmsnorm", "nvjet_qkv", "fmha_decode", "nvjet_o", "multimem_all_reduce_kernel"}) {
        events.push_back(kineto_kernel(name, now, 12, 7, correlation));
        now += 13;
      }
    }
    events.push_back(kineto_kernel("argmax", now, 3, 7, correlation++));
    now += 200;
  }
  return events;
}

constexpr const char* kH100 =
    R"("deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85018279936}], )";

TEST_F(ImportKineto, AnnotatedStepsFollowTheirLaunchesToTheGpu) {
  const auto imported = import_events(decode_steps(3, 4, true), kH100);
  EXPECT_THAT(imported.rows("SELECT phase, source FROM step"),
              ElementsAre("decode nvtx", "decode nvtx", "decode nvtx"));
  EXPECT_THAT(imported.rows("SELECT COUNT(*) FROM op GROUP BY step_id"),
              ElementsAre("21", "21", "21"));
}

TEST_F(ImportKineto, UnannotatedStepsAreDetectedAndCalledDecode) {
  const auto imported = import_events(decode_steps(5, 4, false), kH100);
  EXPECT_THAT(imported.rows("SELECT phase, source FROM step"),
              ElementsAre("decode detected", "decode detected", "decode detected",
                          "decode detected", "decode detected"));
}

TEST_F(ImportKineto, InferredWeightsHaveTheSameNameInEveryStep) {
  const auto imported = import_events(decode_steps(4, 2, true), kH100);
  EXPECT_THAT(imported.rows("SELECT tensor, COUNT(*) FROM access_named WHERE role = 'weight' GROUP "
                            "BY tensor ORDER BY tensor"),
              ElementsAre("nvjet_o#1.weight 4", "nvjet_o.weight 4", "nvjet_qkv#1.weight 4",
                          "nvjet_qkv.weight 4"));
  // (12 us - 2 us floor) * 0.8 * 3.35 TB/s
  EXPECT_THAT(imported.rows("SELECT DISTINCT bytes, source FROM access WHERE confidence < 0.5"),
              ElementsAre("26800000 inferred"));
}

TEST_F(ImportKineto, NothingIsInferredForAnUnknownDevice) {
  const Imported imported = import_events(decode_steps(4, 2, true));
  EXPECT_EQ(imported.count("access WHERE source = 'inferred'"), 0);
}

RC_GTEST_FIXTURE_PROP(ImportKineto, OrderOfEventsDoesNotMatter, ()) {
  const std::vector<std::string> events = decode_steps(3, 2, true);
  std::vector<std::string> shuffled = events;
  // Fisher-Yates with drawn positions, so that a failure shrinks to few swaps.
  for (size_t i = shuffled.size() - 1; i > 0; --i) {
    std::swap(shuffled[i], shuffled[*rc::gen::inRange<size_t>(0, i + 1)]);
  }
  const std::string operators =
      "SELECT op_named.name || op_named.start_ns, op_named.end_ns, op.graph_node_id, op.graph_id, "
      "step.ordinal || ifnull(range_named.name, '') || ifnull(access_named.tensor, '') FROM op "
      "JOIN op_named USING (id) JOIN step ON step.id = op.step_id LEFT JOIN range_named ON "
      "range_named.id = op.range_id LEFT JOIN access_named ON access_named.op_id = op.id ORDER BY "
      "op.start_ns";
  const auto expected = import_events(events, kH100).rows(operators);
  RC_ASSERT(expected.size() == 3u * 11u);
  RC_ASSERT(import_events(shuffled, kH100).rows(operators) == expected);
}

TEST_F(ImportKineto, RankComesFromTheFileThenFromItsName) {
  const std::string kernel = kineto_kernel("k", 1, 1, 7, 1);
  const auto inside = import_files({write_events("rank5.json", {kernel}, kineto_rank(3, 4))});
  EXPECT_THAT(inside.rows("SELECT rank || '/' || world_size FROM process"), ElementsAre("3/4"));
  const auto named = import_files(
      {write_events("x_rank5.json", {kernel}, R"("distributedInfo": {"rank": ""}, )")});
  EXPECT_THAT(named.rows("SELECT rank FROM process"), ElementsAre("5"));
  EXPECT_THAT(named.summary.warnings, testing::Contains(HasSubstr("guessed from the file's name")));
  const auto unknown = import_files({write_events("t.json", {kernel})});
  EXPECT_THAT(unknown.rows("SELECT 1 FROM process WHERE rank IS NULL"), ElementsAre("1"));
}

}  // namespace
}  // namespace preserve::test
