// SPDX-License-Identifier: Apache-2.0
// CUDA records -> trace.db, without CUDA: joins, reuse of numbers, graphs, waits, losses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>
#include <random>

#include "profiler/convert/cuda/findings.h"
#include "profiler/convert/gpu_processes.h"
#include "tests/profiler/convert/cuda/converted.h"

namespace preserve {
namespace {

using cuda::NodeEvent;
using cuda::RecordType;
using test::Converted;
using test::CudaRecording;

TEST(CudaConvert, KernelBecomesAnOperatorOnItsStream) {
  CudaRecording recording({"gemm_kernel"});
  recording.launch(900, 11, 1);
  recording.kernel(1, 1000, 1500, 11);
  const Converted trace(recording, {{"mlp", 0}});
  EXPECT_THAT(trace.rows("SELECT string.value, op.kind, op.start_ns || '-' || op.end_ns, "
                         "stream.kind, stream.native_id FROM op JOIN string ON string.id = "
                         "op.name_id JOIN stream ON stream.id = op.stream_id"),
              testing::ElementsAre("gemm_kernel compute 1000-1500 gpu 7"));
  EXPECT_THAT(trace.paths(), testing::ElementsAre("mlp"));
  EXPECT_EQ(trace.summary.join.launched, 1);
}

TEST(CudaConvert, ZeroTimestampsAreCountedNeverPlacedAtZero) {
  CudaRecording recording({"k"});
  recording.kernel(1, 0, 0, 1);
  recording.kernel(1, 2000, 1000, 2);
  recording.kernel(1, -5, 10, 3);
  recording.kernel(1, 3000, 3000,
                   4);  // no error in old files: a kernel shorter than the clock's step
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT start_ns || '' FROM op"), testing::ElementsAre("3000"));
  EXPECT_THAT(trace.losses("cupti"), testing::ElementsAre("impossible_time 2", "received 4",
                                                          "written 1", "zero_timestamp 1"));
}

TEST(CudaConvert, OverlappingKernelsOfOneStreamAreKeptAsTheyRan) {
  CudaRecording recording({"a", "b"});
  recording.kernel(2, 1900, 3000, 2);  // programmatic dependent launch, and out of order
  recording.kernel(1, 1000, 2000, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT start_ns || '-' || end_ns FROM op ORDER BY id"),
              testing::ElementsAre("1000-2000", "1900-3000"));
}

TEST(CudaConvert, ReusedCorrelationIdBelongsToTheLastCallBeforeTheKernel) {
  CudaRecording recording({"k"});
  const int64_t hour = 3'600'000'000'000;
  recording.launch(1'000, 9, 1);
  recording.launch(hour, 9, 2);
  recording.kernel(1, 2'000, 3'000, 9);
  recording.kernel(1, hour + 1'000, hour + 2'000, 9);
  const Converted trace(recording, {{"first", 0}, {"second", 0}});
  EXPECT_THAT(trace.paths(), testing::ElementsAre("first", "second"));
}

TEST(CudaConvert, RecordsMayNameTheRuntimeCallAroundTheDriverCall) {
  CudaRecording recording({"k"});
  cuda::LaunchBody launch{};
  launch.outer_correlation = 20;
  recording.launch(1'000, 21, 1, launch);
  recording.kernel(1, 2'000, 3'000, 20);
  recording.kernel(1, 4'000, 5'000, 21);
  const Converted trace(recording, {{"r", 0}});
  EXPECT_THAT(trace.paths(), testing::ElementsAre("r", "r"));
}

// Two layers captured once, replayed twice; the executable graph's nodes are clones.
void record_graph(CudaRecording& recording) {
  recording.name(1, "gemm");
  recording.name(2, "ncclDevKernel_AllReduce_Sum_bf16_RING_LL");
  recording.capture(100, 1, 2, 1001);
  recording.capture(110, 2, 3, 1002);
  recording.node(120, 2001, NodeEvent::cloned, 1001);
  recording.node(121, 2002, NodeEvent::cloned, 1002);
  for (int replay = 0; replay < 2; ++replay) {
    const int64_t t = 10'000'000 * (replay + 1);
    const auto correlation = static_cast<uint32_t>(50 + replay);
    recording.launch_graph(t, correlation, static_cast<uint32_t>(4 + replay));
    recording.kernel(1, t + 100, t + 200, correlation, 2001);
    recording.kernel(2, t + 200, t + 300, correlation, 2002);
  }
}

TEST(CudaConvert, GraphNodesCarryTheRangesOfCaptureBelowThoseOfReplay) {
  CudaRecording recording;
  record_graph(recording);
  const Converted trace(recording, {{"capture", 0},
                                    {"layers.0.mlp", 1},
                                    {"layers.0.allreduce", 1},
                                    {"decode_step", 0},
                                    {"decode_step", 0}});
  EXPECT_THAT(trace.paths(), testing::ElementsAre("layers.0.mlp < capture < decode_step",
                                                  "layers.0.allreduce < capture < decode_step",
                                                  "layers.0.mlp < capture < decode_step",
                                                  "layers.0.allreduce < capture < decode_step"));
  EXPECT_EQ(trace.summary.join.graph_nodes, 4);
  EXPECT_EQ(trace.summary.join.resolved_nodes, 4);
  // Each replay has its own module, as long as its operators ran.
  EXPECT_THAT(trace.rows("SELECT start_ns || '-' || end_ns, depth FROM range JOIN string ON "
                         "string.id = range.name_id WHERE string.value = 'layers.0.mlp' AND "
                         "range.kind = 'start_end' ORDER BY start_ns"),
              testing::ElementsAre("10000100-10000200 2", "20000100-20000200 2"));
}

TEST(CudaConvert, StepThatCapturesAndReplaysIsOneStep) {
  CudaRecording recording;
  record_graph(recording);
  const Converted trace(recording, {{"decode_step", 0},
                                    {"layers.0.mlp", 1},
                                    {"layers.0.allreduce", 1},
                                    {"decode_step", 0},
                                    {"decode_step", 0}});
  EXPECT_THAT(trace.paths(), testing::ElementsAre(
                                 "layers.0.mlp < decode_step", "layers.0.allreduce < decode_step",
                                 "layers.0.mlp < decode_step", "layers.0.allreduce < decode_step"));
}

// A kernel in all 300 ranges of its capture, then one in the outer ones.
class DeepRanges : public testing::Test {
 protected:
  static Converted convert(int ranges, uint32_t inner, uint32_t outer) {
    std::vector<std::pair<std::string, uint32_t>> names;
    names.reserve(static_cast<size_t>(ranges) + 1);
    for (int i = 0; i < ranges; ++i) {
      names.emplace_back("r" + std::to_string(i + 1), static_cast<uint32_t>(i));
    }
    names.emplace_back("decode_step", 0);
    CudaRecording recording({"gemm"});
    recording.capture(100, 1, inner, 1001);
    recording.capture(110, 2, outer, 1002);
    recording.launch_graph(1000, 50, static_cast<uint32_t>(names.size()));
    recording.kernel(1, 1100, 1200, 50, 1001);
    recording.kernel(1, 1200, 1900, 50, 1002);
    recording.kernel(1, 1900, 2000, 50, 1001);
    return Converted(recording, names);
  }
  static void expect_children_inside(const Converted& trace) {
    EXPECT_EQ(trace.count("range child JOIN range parent ON parent.id = child.parent_id WHERE "
                          "parent.kind = 'start_end' AND (child.start_ns < parent.start_ns OR "
                          "child.end_ns > parent.end_ns)"),
              0);
  }
};

TEST_F(DeepRanges, UpToTheLimitAreAllThere) {
  const Converted trace = convert(200, 200, 20);
  EXPECT_EQ(trace.count("range WHERE kind = 'start_end'"), 200);
  expect_children_inside(trace);
  EXPECT_EQ(trace.loss("cuda_graph_range", "too_deep"), 0);
}

TEST_F(DeepRanges, BeyondTheLimitAreCounted) {
  const Converted inner_first = convert(300, 300, 20);
  expect_children_inside(inner_first);
  EXPECT_THAT(inner_first.losses("cuda_graph_range"),
              testing::ElementsAre("received 3", "too_deep 2", "written 1"));
  // 50 ranges are known when the deeper ones are hung below them.
  const Converted hung = convert(220, 50, 220);
  expect_children_inside(hung);
  EXPECT_EQ(hung.number("SELECT MAX(depth) FROM range WHERE kind = 'start_end'"), 200);
  EXPECT_EQ(hung.loss("cuda_graph_range", "too_deep"), 1);
  EXPECT_THAT(hung.paths()[1], testing::StartsWith("r200 < r199 < "));
}

TEST(CudaConvert, RecycledNodeNumberMeansWhatItLastMeant) {
  CudaRecording recording({"k"});
  recording.capture(100, 1, 1, 77);
  recording.launch_graph(5'000'000, 8);
  recording.kernel(1, 5'000'100, 5'000'200, 8, 77);
  recording.node(6'000'000, 77, NodeEvent::destroyed);
  recording.capture(7'000'000, 2, 2, 77);
  recording.launch_graph(9'000'000, 9);
  recording.kernel(1, 9'000'100, 9'000'200, 9, 77);
  const Converted trace(recording, {{"old", 0}, {"new", 0}});
  EXPECT_THAT(trace.paths(), testing::ElementsAre("old", "new"));
}

TEST(CudaConvert, UnknownNodeKeepsItsNameAndIsCounted) {
  CudaRecording recording({"captured_before_we_came"});
  recording.launch_graph(1'000, 3, 1);
  recording.kernel(1, 2'000, 3'000, 3, 999);
  const Converted trace(recording, {{"decode_step", 0}});
  EXPECT_THAT(trace.paths(), testing::ElementsAre("decode_step"));
  EXPECT_EQ(trace.loss("cuda_graph_node", "unmatched"), 1);
  EXPECT_EQ(trace.loss("cuda_launch", "unmatched"), 0);
}

TEST(CudaConvert, WholeGraphLaunchesAreOperatorsOfUnknownContent) {
  CudaRecording recording;
  cuda::GraphBody body{100, 900, {0, 1, 7, 3, 0, 12, 0}};
  recording.add(RecordType::graph, body);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT kind, graph_id, start_ns FROM op"),
              testing::ElementsAre("other 12 100"));
}

TEST(CudaConvert, WholeGraphLaunchesWithoutTimesAreCounted) {
  CudaRecording recording;
  recording.add(RecordType::graph, cuda::GraphBody{0, 900, {0, 1, 7, 3, 0, 12, 0}});
  const Converted trace(recording);
  EXPECT_THAT(trace.losses("cupti"), testing::ElementsAre("received 1", "zero_timestamp 1"));
}

TEST(CudaConvert, NodeOfAGraphIsNotLaunchedByAnotherCall) {
  CudaRecording recording({"k"});
  recording.launch_graph(90, 3);
  recording.launch(95, 4);
  recording.kernel(1, 100, 200, 3, 77);
  recording.kernel(1, 300, 400, 4, 77);  // the id of an ordinary launch: wrong
  recording.kernel(1, 500, 600, 4);
  const Converted trace(recording);
  EXPECT_EQ(trace.loss("cuda_launch", "written"), 2);
  EXPECT_EQ(trace.loss("cuda_launch", "unmatched"), 1);
}

// Streams are numbered within a context: every device has a stream 7.
TEST(CudaConvert, WholeGraphLaunchesOfTwoDevicesStayApart) {
  CudaRecording recording({"k"});
  for (const uint32_t device : {0u, 1u}) {
    cuda::KernelBody kernel{};
    kernel.start_ns = 10;
    kernel.end_ns = 20;
    kernel.place = {device, device + 1, 7, 1, 0, 0, 0};
    kernel.name = 1;
    recording.add(RecordType::kernel, kernel);
    recording.add(RecordType::graph,
                  cuda::GraphBody{100, 900, {device, device + 1, 7, 3, 0, 12, 0}});
  }
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT COUNT(*) FROM op GROUP BY stream_id"),
              testing::ElementsAre("2", "2"));
}

void add_range(CudaRecording& recording, int64_t from_ns, int64_t to_ns) {
  const auto enter = [&](cuda::State state, int64_t time_ns) {
    recording.add(RecordType::state, cuda::StateBody{state, 0}, {}, {}, {time_ns, 1, 0});
  };
  enter(cuda::State::recording, from_ns);
  enter(cuda::State::armed, to_ns);
}

TEST(CudaFindings, SeveralRangesWithGraphsAreDoubtedBeforeCuda131Update1) {
  for (const auto& [version, ranges, doubted] :
       {std::tuple{28u, 2, true}, {130100u, 2, true}, {130101u, 2, false}, {28u, 1, false}}) {
    CudaRecording recording;
    recording.add(RecordType::clock,
                  cuda::ClockBody{1, 1, 1, cuda::ActivityClock::monotonic, version});
    for (int i = 0; i < ranges; ++i) add_range(recording, 100 + 100 * i, 150 + 100 * i);
    recording.launch_graph(120, 3);
    const cuda::Findings found = cuda::find_out(recording.reader.finish());
    EXPECT_EQ(found.notes.size(), doubted ? 1u : 0u) << version << " " << ranges;
  }
}

// "rank/ranks" of processes with that rank (-1: none) and number of GPUs, once GPUs are counted.
std::vector<std::string> ranks_of(const std::vector<std::pair<int64_t, int>>& recorded,
                                  std::vector<std::string>& notes) {
  TraceDb db = TraceDb::create(":memory:");
  std::vector<RecordedProcess> processes;
  for (const auto& [rank, gpus] : recorded) {
    ProcessRow row{"host", 42};
    if (rank >= 0) {
      row.rank = rank;
      row.world_size = 3;
    }
    RecordedProcess& process = processes.emplace_back();
    process = {db.add(row), "process 42", row.rank, row.world_size};
    for (int gpu = 0; gpu < gpus; ++gpu) {
      process.gpus.push_back(gpu == 0 ? process.id : db.add(row));
    }
  }
  notes = count_gpus_as_ranks(db, processes);
  return test::rows(db, "SELECT rank, world_size FROM process ORDER BY id");
}

TEST(GpuProcesses, EveryGpuIsARankWhereAProcessHasSeveral) {
  std::vector<std::string> notes;
  EXPECT_THAT(ranks_of({{0, 2}, {1, 0}, {2, 3}, {-1, 2}}, notes),
              testing::ElementsAre("0 6", "1 6", "2 6", "3 6", "4 6", "5 6", "- -", "- -"));
  EXPECT_THAT(notes, testing::ElementsAre(testing::HasSubstr("2 GPUs: they are ranks 0 to 1 of"),
                                          testing::HasSubstr("3 GPUs: they are ranks 3 to 5 of")));
  // Where ranks are in files of their own, only merging them can count.
  EXPECT_THAT(ranks_of({{1, 2}, {-1, 1}}, notes), testing::ElementsAre("1 3", "- -", "- -"));
  EXPECT_THAT(notes, testing::ElementsAre(testing::HasSubstr("2 GPUs: a process each, the first")));
  EXPECT_THAT(ranks_of({{-1, 0}, {-1, 2}, {-1, 1}}, notes),
              testing::ElementsAre("- -", "0 3", "1 3", "2 3"));
  EXPECT_THAT(ranks_of({{0, 1}, {1, 1}, {2, 0}}, notes), testing::ElementsAre("0 3", "1 3", "2 3"));
  EXPECT_THAT(notes, testing::IsEmpty());
}

TEST(GpuProcesses, MoreGpusThanAnyoneHasStayOneProcess) {
  for (const int64_t gpus : {int64_t{kMostGpus}, int64_t{kMostGpus} + 1}) {
    TraceDb db = TraceDb::create(":memory:");
    const ProcessRow row{"host", 42};
    const ProcessId process = db.add(row);
    const StringId name = db.intern("kernel");
    for (int64_t gpu = 0; gpu < gpus; ++gpu) {
      const DeviceId device = db.add(DeviceRow{"host", "gpu", "GPU"});
      const StreamId stream = db.add(StreamRow{process, device, StreamKind::gpu, 7, ""});
      db.add(OpRow{
          .stream = stream, .kind = OpKind::compute, .name = name, .start_ns = 1, .end_ns = 2});
    }
    std::vector<std::string> warnings;
    const auto processes = one_process_per_gpu(db, process, row, 0, 1, "rank 3", warnings);
    if (gpus == int64_t{kMostGpus}) {
      EXPECT_EQ(processes.size(), kMostGpus);
      EXPECT_THAT(warnings, testing::IsEmpty());
    } else {
      EXPECT_EQ(processes.size(), 1U);
      EXPECT_THAT(warnings,
                  testing::ElementsAre(testing::HasSubstr("rank 3 ran kernels on 1025 GPUs")));
    }
  }
}

TEST(CudaFindings, WhatIsLostIsCountedAgainstAll) {
  CudaRecording recording({"k"});
  recording.kernel(1, 100, 200, 1);
  recording.kernel(1, 0, 0, 2);
  recording.kernel(1, 300, 200, 3);
  recording.add(RecordType::lost, cuda::LostBody{7, cuda::LossPlace::cupti, 0});
  recording.add(RecordType::lost, cuda::LostBody{2, cuda::LossPlace::discarded, 0});
  const cuda::Findings found = cuda::find_out(recording.reader.finish());
  EXPECT_THAT(found.losses, testing::ElementsAre("1 of 10 GPU records without times",
                                                 "1 of 10 GPU records with impossible times",
                                                 "7 of 10 GPU records dropped by CUPTI",
                                                 testing::StartsWith("2 buffers of GPU records")));
}

TEST(CudaConvert, RealtimeActivitiesComeOntoTheMonotonicClock) {
  CudaRecording recording({"k"});
  // The wall clock was set forward by 500 ns between the two readings.
  recording.add(RecordType::clock,
                cuda::ClockBody{1'000, 1'001'000, 10, cuda::ActivityClock::realtime, 20});
  recording.add(RecordType::clock,
                cuda::ClockBody{2'000, 1'002'500, 10, cuda::ActivityClock::realtime, 20});
  recording.kernel(1, 1'001'100, 1'001'200, 1);
  recording.kernel(1, 1'002'600, 1'002'700, 2);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT start_ns || '-' || end_ns FROM op ORDER BY id"),
              testing::ElementsAre("1100-1200", "2100-2200"));
}

TEST(CudaConvert, DroppedRecordsAndOverheadAreReported) {
  CudaRecording recording({"k"});
  recording.add(RecordType::clock,
                cuda::ClockBody{1, 1, 1, cuda::ActivityClock::monotonic, 130001});
  recording.add(RecordType::lost, cuda::LostBody{30, cuda::LossPlace::cupti, 0});
  recording.add(RecordType::lost, cuda::LostBody{2, cuda::LossPlace::discarded, 0});
  recording.add(RecordType::overhead, cuda::OverheadBody{10, 60, 2u << 16, 0});
  recording.kernel(1, 100, 200, 1);
  const Converted trace(recording);
  EXPECT_EQ(trace.loss("cupti", "received"), 31);
  EXPECT_EQ(trace.loss("cupti", "dropped"), 30);
  EXPECT_EQ(trace.loss("cupti_buffers", "dropped"), 2);
  EXPECT_THAT(trace.rows("SELECT value FROM meta WHERE key = 'cuda_process_1'"),
              testing::ElementsAre(testing::HasSubstr(R"("instrumentation":{"count":1,"ns":50})")));
}

TEST(CudaConvert, NothingRecordedLeavesNothing) {
  CudaRecording recording;
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT source FROM loss"), testing::IsEmpty());
  EXPECT_THAT(trace.rows("SELECT key FROM meta WHERE key LIKE 'cuda%'"), testing::IsEmpty());
}

// Any order of the records of the writer thread gives the same trace.
TEST(CudaConvert, OrderOfActivityRecordsDoesNotMatter) {
  const auto convert = [](unsigned seed) {
    CudaRecording recording({"a", "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"});
    for (uint32_t i = 0; i < 50; ++i) recording.launch(1000 + i * 10'000'000LL, i + 1, 1 + i % 2);
    std::vector<uint32_t> order(50);
    for (uint32_t i = 0; i < 50; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    for (const uint32_t i : order) {
      const int64_t start = 2000 + i * 10'000'000LL;
      recording.kernel(1 + i % 2, start, start + 500, i + 1);
    }
    const Converted trace(recording, {{"x", 0}, {"y", 0}});
    return trace.rows(
        "SELECT op.id, op.start_ns, op.kind, string.value FROM op JOIN range ON range.id = "
        "op.range_id JOIN string ON string.id = range.name_id");
  };
  const std::vector<std::string> expected = convert(0);
  EXPECT_EQ(expected.size(), 50u);
  for (unsigned seed = 1; seed < 6; ++seed) EXPECT_EQ(convert(seed), expected);
}

// Whatever bytes a spool holds: no crash, and every activity is a row or counted.
RC_GTEST_PROP(CudaConvertProperty, AnyBytesAreSafeAndAccountedFor, (uint32_t seed)) {
  std::mt19937 random(seed);
  CudaRecording recording({"k"});
  for (int i = 0; i < 60; ++i) {
    const auto type =
        static_cast<RecordType>(static_cast<unsigned>(RecordType::first) +
                                random() % (static_cast<unsigned>(RecordType::count_) -
                                            static_cast<unsigned>(RecordType::first)));
    std::string tail(random() % 32 * 8, '\0');
    const bool small = random() % 2 == 0;  // plausible values reach further than noise
    for (char& c : tail)
      c = small ? static_cast<char>(random() % 7 == 0) : static_cast<char>(random());
    recording.add_raw(type, tail, random() % 64,
                      {static_cast<int64_t>(random()), static_cast<uint32_t>(random() % 3),
                       static_cast<uint32_t>(random() % 4)});
  }
  const Converted trace(recording, {{"a", 0}, {"b", 1}});
  RC_ASSERT(
      trace.number("SELECT IFNULL(SUM(CASE kind WHEN 'received' THEN count ELSE -count END), 0) "
                   "FROM loss WHERE source = 'cupti'") == 0);
}

TEST(CudaConvert, WaitsAreRangesOnTheStreamThatWasWaitedFor) {
  CudaRecording recording({"k"});
  recording.kernel(1, 1000, 2000, 1, 0, 7);
  recording.kernel(1, 1000, 2000, 2, 0, 9);
  const auto wait = [&](int64_t from, int64_t to, uint32_t type, uint32_t context,
                        uint32_t stream) {
    recording.add(RecordType::synchronize,
                  cuda::SynchronizeBody{from, to, type, 5, context, stream});
  };
  wait(1500, 2500, 3, 1, 9);
  wait(2600, 2700, 4, 1, UINT32_MAX);  // the whole context
  wait(2800, 2900, 3, 99, 1);          // a context of which nothing was recorded
  wait(0, 0, 3, 1, 9);
  wait(3000, 2900, 77, 1, 9);
  recording.add(RecordType::external, cuda::ExternalBody{17, 3, 1});
  recording.add(RecordType::pool, cuda::PoolBody{100, 0x7000, 4096, 0, 1});
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT string.value, range.start_ns || '-' || range.end_ns, "
                         "stream.native_id FROM range JOIN string ON string.id = name_id JOIN "
                         "stream ON stream.id = stream_id ORDER BY range.id"),
              testing::ElementsAre("wait for stream 1500-2500 9", "wait for context 2600-2700 7"));
  EXPECT_EQ(trace.count("op"), 2);  // no operators
  EXPECT_THAT(trace.losses("cuda_waits"),
              testing::ElementsAre("received 5", "unmatched 1", "written 2", "zero_timestamp 2"));
}

}  // namespace
}  // namespace preserve
