// SPDX-License-Identifier: Apache-2.0
// CUDA records -> trace.db, without CUDA: joins, reuse of numbers, collectives, losses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>
#include <limits>
#include <random>

#include "db/trace_db.h"
#include "profiler/cuda/findings.h"
#include "tests/profiler/cuda/cuda_records.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using cuda::NodeEvent;
using cuda::RecordType;
using test::CudaRecording;

// A trace.db made from a recording, open for asking.
class Converted {
 public:
  // Ranges by name, each with the number of its parent (0: none), numbered from 1.
  Converted(CudaRecording& recording,
            const std::vector<std::pair<std::string, uint32_t>>& ranges = {},
            const std::vector<std::tuple<std::string, int64_t, int64_t>>& regions = {}) {
    TraceDb db = TraceDb::create(folder_ / "trace.db");
    ProcessRow process{"host", 42};
    process.start_ns = 1;
    process.end_ns = 1'000'000'000;
    const ProcessId id = db.add(process);
    std::vector<cuda::HostRange> host;
    if (!ranges.empty()) {
      const StreamId thread = db.add(StreamRow{id, {}, StreamKind::thread, 1, ""});
      for (const auto& [name, parent] : ranges) {
        RangeRow row{};
        row.stream = thread;
        row.name = db.intern(name);
        row.depth = parent == 0 ? 0 : host[parent - 1].depth + 1;
        if (parent != 0) row.parent = host[parent - 1].row;
        row.start_ns = 1;
        row.end_ns = 2;
        host.push_back({row.name, {}, parent, db.add(row), row.depth});
      }
    }
    cuda::Run run = recording.reader.finish();
    const import::KernelRules rules;
    std::vector<cuda::NamedMemory> memory;
    for (const auto& [name, base, bytes] : regions) {
      TensorRow row{id, db.intern(name), TensorRole::weight, base, bytes, "nvtx_mem"};
      memory.push_back({static_cast<uint64_t>(base), static_cast<uint64_t>(bytes), INT64_MIN,
                        INT64_MAX, db.add(row), TensorRole::weight});
    }
    summary = cuda::write_rows(run, {db, id, "host", host, rules, memory});
    db.finish();
  }
  TraceDb open() const { return TraceDb::open(folder_ / "trace.db"); }
  std::vector<std::string> rows(const std::string& sql) const {
    const TraceDb db = open();
    std::vector<std::string> out;
    Query query = db.query(sql);
    while (query.next()) out.emplace_back(query.text(0));
    return out;
  }
  int64_t loss(const std::string& source, const std::string& kind) const {
    return open()
        .query_integer("SELECT SUM(count) FROM loss WHERE source = ? AND kind = ?", {source, kind})
        .value_or(0);
  }
  // Innermost to outermost range of every operator, in order of time.
  std::vector<std::string> paths() const {
    return rows(
        "SELECT (WITH RECURSIVE up(id, name, parent, depth) AS ("
        "  SELECT range.id, string.value, range.parent_id, range.depth FROM range "
        "  JOIN string ON string.id = range.name_id WHERE range.id = op.range_id "
        "  UNION ALL SELECT range.id, string.value, range.parent_id, range.depth FROM up "
        "  JOIN range ON range.id = up.parent JOIN string ON string.id = range.name_id) "
        "SELECT IFNULL(GROUP_CONCAT(name, ' < '), '-') FROM up) FROM op ORDER BY op.start_ns, "
        "op.id");
  }

  cuda::RowSummary summary;

 private:
  test::TemporaryDirectory folder_;
};

TEST(CudaConvert, KernelBecomesAnOperatorOnItsStream) {
  CudaRecording recording;
  recording.name(1, "gemm_kernel");
  recording.launch(900, 11, 1, 1);
  recording.kernel(1, 1000, 1500, 11);
  const Converted trace(recording, {{"mlp", 0}});
  EXPECT_THAT(
      trace.rows("SELECT string.value || ' ' || op.kind || ' ' || op.start_ns || '-' || op.end_ns "
                 "|| ' ' || stream.kind || ' ' || stream.native_id FROM op "
                 "JOIN string ON string.id = op.name_id JOIN stream ON stream.id = op.stream_id"),
      testing::ElementsAre("gemm_kernel compute 1000-1500 gpu 7"));
  EXPECT_THAT(trace.paths(), testing::ElementsAre("mlp"));
  EXPECT_EQ(trace.summary.join.launched, 1);
}

TEST(CudaConvert, ZeroTimestampsAreCountedNeverPlacedAtZero) {
  CudaRecording recording;
  recording.name(1, "k");
  recording.kernel(1, 0, 0, 1);
  recording.kernel(1, 2000, 1000, 2);
  recording.kernel(1, -5, 10, 3);
  recording.kernel(1, 3000, 3000,
                   4);  // no error in old files: a kernel shorter than the clock's step
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT start_ns || '' FROM op"), testing::ElementsAre("3000"));
  EXPECT_EQ(trace.loss("cupti", "zero_timestamp"), 1);
  EXPECT_EQ(trace.loss("cupti", "impossible_time"), 2);
  EXPECT_EQ(trace.loss("cupti", "received"), 4);
  EXPECT_EQ(trace.loss("cupti", "written"), 1);
}

TEST(CudaConvert, OverlappingKernelsOfOneStreamAreKeptAsTheyRan) {
  CudaRecording recording;
  recording.name(1, "a");
  recording.name(2, "b");
  recording.kernel(2, 1900, 3000, 2);  // programmatic dependent launch, and out of order
  recording.kernel(1, 1000, 2000, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT start_ns || '-' || end_ns FROM op ORDER BY id"),
              testing::ElementsAre("1000-2000", "1900-3000"));
}

TEST(CudaConvert, ReusedCorrelationIdBelongsToTheLastCallBeforeTheKernel) {
  CudaRecording recording;
  recording.name(1, "k");
  const int64_t hour = 3'600'000'000'000;
  recording.launch(1'000, 9, 1, 1);
  recording.launch(hour, 9, 1, 2);
  recording.kernel(1, 2'000, 3'000, 9);
  recording.kernel(1, hour + 1'000, hour + 2'000, 9);
  const Converted trace(recording, {{"first", 0}, {"second", 0}});
  EXPECT_THAT(trace.paths(), testing::ElementsAre("first", "second"));
}

TEST(CudaConvert, RecordsMayNameTheRuntimeCallAroundTheDriverCall) {
  CudaRecording recording;
  recording.name(1, "k");
  recording.launch(1'000, 21, 1, 1, cuda::LaunchKind::kernel, 0, {}, 20);
  recording.kernel(1, 2'000, 3'000, 20);
  recording.kernel(1, 4'000, 5'000, 21);
  const Converted trace(recording, {{"r", 0}});
  EXPECT_THAT(trace.paths(), testing::ElementsAre("r", "r"));
}

// Two layers captured once, replayed twice; the executable graph's nodes are clones.
void record_graph(CudaRecording& recording) {
  recording.name(1, "gemm");
  recording.name(2, "ncclDevKernel_AllReduce_Sum_bf16_RING_LL");
  recording.launch(100, 1, 1, 2);
  recording.node(101, 1001, NodeEvent::created);
  recording.launch(110, 2, 1, 3);
  recording.node(111, 1002, NodeEvent::created);
  recording.node(120, 2001, NodeEvent::cloned, 1001);
  recording.node(121, 2002, NodeEvent::cloned, 1002);
  for (int replay = 0; replay < 2; ++replay) {
    const int64_t t = 10'000'000 * (replay + 1);
    const auto correlation = static_cast<uint32_t>(50 + replay);
    recording.launch(t, correlation, 1, static_cast<uint32_t>(4 + replay), cuda::LaunchKind::graph);
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
  EXPECT_THAT(
      trace.rows("SELECT start_ns || '-' || end_ns || ' ' || depth FROM range JOIN string ON "
                 "string.id = range.name_id WHERE string.value = 'layers.0.mlp' "
                 "AND range.kind = 'start_end' ORDER BY start_ns"),
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

TEST(CudaConvert, RecycledNodeNumberMeansWhatItLastMeant) {
  CudaRecording recording;
  recording.name(1, "k");
  recording.launch(100, 1, 1, 1);
  recording.node(101, 77, NodeEvent::created);
  recording.launch(5'000'000, 8, 1, 0, cuda::LaunchKind::graph);
  recording.kernel(1, 5'000'100, 5'000'200, 8, 77);
  recording.node(6'000'000, 77, NodeEvent::destroyed);
  recording.launch(7'000'000, 2, 1, 2);
  recording.node(7'000'001, 77, NodeEvent::created);
  recording.launch(9'000'000, 9, 1, 0, cuda::LaunchKind::graph);
  recording.kernel(1, 9'000'100, 9'000'200, 9, 77);
  const Converted trace(recording, {{"old", 0}, {"new", 0}});
  EXPECT_THAT(trace.paths(), testing::ElementsAre("old", "new"));
}

TEST(CudaConvert, UnknownNodeKeepsItsNameAndIsCounted) {
  CudaRecording recording;
  recording.name(1, "captured_before_we_came");
  recording.launch(1'000, 3, 1, 1, cuda::LaunchKind::graph);
  recording.kernel(1, 2'000, 3'000, 3, 999);
  const Converted trace(recording, {{"decode_step", 0}});
  EXPECT_THAT(trace.paths(), testing::ElementsAre("decode_step"));
  EXPECT_EQ(trace.loss("cuda_graph_node", "unmatched"), 1);
  EXPECT_EQ(trace.loss("cuda_launch", "unmatched"), 0);
}

cuda::LibraryCall nccl_call(const char* function, int64_t bytes, bool plugin) {
  cuda::LibraryCall call;
  call.function = function;
  call.bytes = bytes;
  call.communicator = 0xabc;
  call.from_plugin = plugin;
  if (plugin) call.dtype = "ncclBfloat16";
  return call;
}
const char* const kCollectives =
    "SELECT function || ' ' || IFNULL(bytes, '?') || ' ' || IFNULL(dtype, '?') || ' ' || "
    "IFNULL(ranks, '?') || ' ' || source || ' ' || confidence FROM collective ORDER BY op_id";

TEST(CudaConvert, PayloadBeforeALaunchDescribesIt) {
  CudaRecording recording;
  recording.name(1, "ncclDevKernel_AllReduce_Sum_bf16_RING_LL");
  recording.reader.set_communicator_ranks(0xabc, 8);
  recording.reader.add(nccl_call("ncclAllReduce", 16384, false), {90, 1, 0});
  recording.launch(100, 1);
  recording.kernel(1, 200, 300, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kCollectives), testing::ElementsAre("allreduce 16384 ? 8 nccl_nvtx 0.9"));
  EXPECT_THAT(
      trace.rows("SELECT metric || ' ' || CAST(value AS INTEGER) FROM counter ORDER BY metric"),
      testing::ElementsAre("blocks 8"));
}

TEST(CudaConvert, PluginIsBelievedBeforeThePayload) {
  CudaRecording recording;
  recording.name(1, "ncclDevKernel_AllReduce_Sum_bf16_RING_LL");
  recording.reader.add(nccl_call("ncclAllReduce", 16384, false), {90, 1, 0});
  recording.reader.add(nccl_call("AllReduce", 16384, true), {95, 1, 0});
  recording.launch(100, 1);
  recording.kernel(1, 200, 300, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kCollectives),
              testing::ElementsAre("allreduce 16384 ncclBfloat16 ? nccl_plugin 1.0"));
  EXPECT_EQ(trace.loss("nccl", "unmatched"), 0);
}

TEST(CudaConvert, GroupWithAsManyLaunchesAsCallsPairsInOrder) {
  CudaRecording recording;
  recording.name(1, "ncclDevKernel_AllReduce_Sum_f32_RING_LL");
  recording.name(2, "ncclDevKernel_AllGather_RING_LL");
  recording.reader.add(nccl_call("ncclAllReduce", 100, false), {90, 1, 0});
  recording.reader.add(nccl_call("ncclAllGather", 200, false), {91, 1, 0});
  recording.launch(100, 1);
  recording.launch(101, 2);
  recording.kernel(1, 200, 300, 1);
  recording.kernel(2, 300, 400, 2);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT function || ' ' || bytes FROM collective ORDER BY op_id"),
              testing::ElementsAre("allreduce 100", "allgather 200"));
}

TEST(CudaConvert, FusedCallsOfOneKernelAddUp) {
  CudaRecording recording;
  recording.name(1, "ncclDevKernel_SendRecv");
  recording.reader.add(nccl_call("ncclSend", 100, false), {90, 1, 0});
  recording.reader.add(nccl_call("ncclRecv", 50, false), {91, 1, 0});
  recording.launch(100, 1);
  recording.kernel(1, 200, 300, 1);
  const Converted trace(recording);
  EXPECT_THAT(
      trace.rows("SELECT function || ' ' || bytes || ' ' || op.kind FROM collective JOIN op ON "
                 "op.id = op_id"),
      testing::ElementsAre("sendrecv 150 p2p"));
}

TEST(CudaConvert, CallsOfAnotherThreadAreNotMixedIn) {
  CudaRecording recording;
  recording.name(1, "ncclDevKernel_AllReduce_Sum_bf16_RING_LL");
  recording.reader.add(nccl_call("ncclAllReduce", 111, false), {90, 2, 0});
  recording.launch(100, 1, 1);
  recording.kernel(1, 200, 300, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kCollectives), testing::ElementsAre("allreduce ? ? ? kernel_name 0.5"));
  EXPECT_EQ(trace.loss("nccl", "unmatched"), 1);
}

TEST(CudaConvert, CollectiveInAGraphKeepsWhatItsCaptureSaid) {
  CudaRecording recording;
  recording.name(1, "ncclDevKernel_AllReduce_Sum_bf16_RING_LL");
  cuda::LibraryCall call = nccl_call("AllReduce", 4096, true);
  call.sequence = 17;
  recording.reader.add(call, {90, 1, 0});
  recording.launch(100, 1);
  recording.node(101, 5, NodeEvent::created);
  recording.launch(10'000'000, 2, 1, 0, cuda::LaunchKind::graph);
  recording.kernel(1, 10'000'100, 10'000'200, 2, 5);
  recording.launch(20'000'000, 3, 1, 0, cuda::LaunchKind::graph);
  recording.kernel(1, 20'000'100, 20'000'200, 3, 5);
  const Converted trace(recording);
  EXPECT_THAT(
      trace.rows("SELECT function || ' ' || bytes || ' ' || IFNULL(sequence, '-') FROM collective"),
      testing::ElementsAre("allreduce 4096 -", "allreduce 4096 -"));
}

TEST(CudaConvert, CustomAllreduceIsKnownByItsName) {
  CudaRecording recording;
  recording.name(1,
                 "void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(RankData*, RankSignals)");
  recording.kernel(1, 100, 200, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kCollectives), testing::ElementsAre("allreduce ? ? ? kernel_name 0.5"));
}

TEST(CudaConvert, WholeGraphLaunchesAreOperatorsOfUnknownContent) {
  CudaRecording recording;
  cuda::GraphBody body{100, 900, {0, 1, 7, 3, 0, 12, 0}};
  recording.add(RecordType::graph, body);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT kind || ' ' || graph_id || ' ' || start_ns FROM op"),
              testing::ElementsAre("other 12 100"));
}

TEST(CudaConvert, WholeGraphLaunchesWithoutTimesAreCounted) {
  CudaRecording recording;
  recording.add(RecordType::graph, cuda::GraphBody{0, 900, {0, 1, 7, 3, 0, 12, 0}});
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT kind || ' ' || count FROM loss WHERE source = 'cupti' ORDER BY 1"),
              testing::ElementsAre("received 1", "zero_timestamp 1"));
}

TEST(CudaConvert, NodeOfAGraphIsNotLaunchedByAnotherCall) {
  CudaRecording recording;
  recording.name(1, "k");
  recording.launch(90, 3, 1, 0, cuda::LaunchKind::graph);
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
  CudaRecording recording;
  recording.name(1, "k");
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
                  cuda::ClockBody{1, 1, 1, 1, cuda::ActivityClock::monotonic, version});
    for (int i = 0; i < ranges; ++i) add_range(recording, 100 + 100 * i, 150 + 100 * i);
    recording.launch(120, 3, 1, 0, cuda::LaunchKind::graph);
    const cuda::Findings found = cuda::find_out(recording.reader.finish());
    EXPECT_EQ(found.notes.size(), doubted ? 1u : 0u) << version << " " << ranges;
  }
}

TEST(CudaFindings, WhatIsLostIsCountedAgainstAll) {
  CudaRecording recording;
  recording.name(1, "k");
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
  CudaRecording recording;
  recording.name(1, "k");
  // The wall clock was set forward by 500 ns between the two readings.
  recording.add(RecordType::clock,
                cuda::ClockBody{1'000, 1'001'000, 0, 10, cuda::ActivityClock::realtime, 20});
  recording.add(RecordType::clock,
                cuda::ClockBody{2'000, 1'002'500, 0, 10, cuda::ActivityClock::realtime, 20});
  recording.kernel(1, 1'001'100, 1'001'200, 1);
  recording.kernel(1, 1'002'600, 1'002'700, 2);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows("SELECT start_ns || '-' || end_ns FROM op ORDER BY id"),
              testing::ElementsAre("1100-1200", "2100-2200"));
}

TEST(CudaConvert, DroppedRecordsAndOverheadAreReported) {
  CudaRecording recording;
  recording.name(1, "k");
  recording.add(RecordType::clock,
                cuda::ClockBody{1, 1, 1, 1, cuda::ActivityClock::monotonic, 130001});
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

// A function of one pointer (offset 0) and one struct of 24 bytes.
void define_function(CudaRecording& recording, uint64_t id, std::string_view name) {
  const cuda::ParameterLayout layout[] = {{0, 8}, {8, 24}};
  recording.add(RecordType::function, cuda::FunctionBody{id, 2, 0}, name,
                {reinterpret_cast<const char*>(layout), sizeof(layout)});
}
void allocate(CudaRecording& recording, uint64_t address, int64_t bytes, bool release = false,
              int64_t time_ns = 1) {
  cuda::MemoryBody body{};
  body.time_ns = time_ns;
  body.address = address;
  body.bytes = bytes;
  body.release = release;
  recording.add(RecordType::memory, body);
}
std::string words(std::initializer_list<uint64_t> values) {
  std::string out;
  for (const uint64_t value : values) out.append(reinterpret_cast<const char*>(&value), 8);
  return out;
}
const char* const kAccesses =
    "SELECT string.value || ' ' || role || ' ' || offset_bytes || '+' || access.bytes || ' ' || "
    "access.source || ' ' || ROUND(confidence, 2) FROM access JOIN tensor ON tensor.id = tensor_id "
    "JOIN string ON string.id = tensor.name_id ORDER BY op_id, operand";

TEST(CudaConvert, PointerIntoANamedRegionIsItsOperand) {
  CudaRecording recording;
  recording.name(1, "gemm");
  define_function(recording, 5, "gemm");
  recording.launch(100, 1, 1, 0, cuda::LaunchKind::kernel, 5, words({0x10000100, 7, 8, 9}));
  recording.kernel(1, 200, 300, 1);
  const Converted trace(recording, {}, {{"layers.0.mlp.weight", 0x10000000, 0x1000}});
  EXPECT_THAT(trace.rows(kAccesses),
              testing::ElementsAre("layers.0.mlp.weight weight 256+3840 params 0.9"));
}

TEST(CudaConvert, BlocksOfAnAllocationEndAtTheNextPointer) {
  CudaRecording recording;
  recording.name(1, "gemm");
  recording.name(2, "silu_and_mul");
  define_function(recording, 5, "gemm");
  define_function(recording, 6, "silu_and_mul");
  allocate(recording, 0x20000000, 0x1000);
  // gemm reads a weight and, in a struct, what silu also reads.
  recording.launch(100, 1, 1, 0, cuda::LaunchKind::kernel, 5,
                   words({0x20000000, 0, 0x20000400, 0}));
  recording.kernel(1, 200, 300, 1);
  recording.launch(110, 2, 1, 0, cuda::LaunchKind::kernel, 6, words({0x20000400, 0, 0, 0}));
  recording.kernel(2, 300, 400, 2);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kAccesses),
              testing::ElementsAre("gemm.0.arg0 weight 0+1024 params 0.6",
                                   "gemm.0.arg16 unknown 0+3072 params 0.3",
                                   "gemm.0.arg16 unknown 0+3072 params 0.4"));
  EXPECT_EQ(trace.summary.operands.matched, 2);
}

TEST(CudaConvert, PointerIntoReleasedMemoryIsNoOperand) {
  CudaRecording recording;
  recording.name(1, "gemm");
  define_function(recording, 5, "gemm");
  allocate(recording, 0x20000000, 0x1000);
  allocate(recording, 0x20000000, 0, true, 5'000'000);
  recording.launch(9'000'000, 1, 1, 0, cuda::LaunchKind::kernel, 5, words({0x20000000, 0, 0, 0}));
  recording.kernel(1, 9'000'200, 9'000'300, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kAccesses), testing::IsEmpty());
  EXPECT_EQ(trace.summary.operands.launches, 1);
  EXPECT_EQ(trace.summary.operands.matched, 0);
}

TEST(CudaConvert, TensorMapTellsAddressAndExtent) {
  CudaRecording recording;
  recording.name(1, "nvjet_tst_128x8");
  recording.add(RecordType::function, cuda::FunctionBody{5, cuda::kUnknownLayout, 0},
                "nvjet_tst_128x8");
  allocate(recording, 0x20000000, 0x100000);
  cuda::TensorMapBody map{};
  for (uint64_t i = 0; i < 16; ++i) map.descriptor[i] = 0xabcd0000 + i;
  map.address = 0x20000800;
  map.rank = 2;
  map.element_bytes = 2;
  map.dims[0] = 64;
  map.dims[1] = 10;
  map.strides[0] = 128;
  recording.add(RecordType::tensor_map, map);
  std::string parameters(reinterpret_cast<const char*>(map.descriptor), sizeof(map.descriptor));
  recording.launch(100, 1, 1, 0, cuda::LaunchKind::kernel, 5, parameters);
  recording.kernel(1, 200, 300, 1);
  const Converted trace(recording);
  EXPECT_THAT(trace.rows(kAccesses),
              testing::ElementsAre("nvjet_tst_128x8.0.arg0 weight 0+1280 params 0.95"));
}

TEST(CudaConvert, ReplaysTouchWhatTheirCaptureWasGiven) {
  CudaRecording recording;
  recording.name(1, "gemm");
  define_function(recording, 5, "gemm");
  allocate(recording, 0x20000000, 0x1000);
  recording.launch(100, 1, 1, 0, cuda::LaunchKind::kernel, 5, words({0x20000000, 0, 0, 0}));
  recording.node(101, 9, NodeEvent::created);
  for (uint32_t replay = 0; replay < 3; ++replay) {
    const int64_t t = 10'000'000 * (replay + 1);
    recording.launch(t, 10 + replay, 1, 0, cuda::LaunchKind::graph);
    recording.kernel(1, t + 100, t + 200, 10 + replay, 9);
  }
  const Converted trace(recording);
  EXPECT_EQ(trace.rows(kAccesses).size(), 3u);
}

// Any order of the records of the writer thread gives the same trace.
TEST(CudaConvert, OrderOfActivityRecordsDoesNotMatter) {
  const auto convert = [](unsigned seed) {
    CudaRecording recording;
    recording.name(1, "a");
    recording.name(2, "ncclDevKernel_AllReduce_Sum_bf16_RING_LL");
    for (uint32_t i = 0; i < 50; ++i)
      recording.launch(1000 + i * 10'000'000LL, i + 1, 1, 1 + i % 2);
    std::vector<uint32_t> order(50);
    for (uint32_t i = 0; i < 50; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    for (const uint32_t i : order) {
      const int64_t start = 2000 + i * 10'000'000LL;
      recording.kernel(1 + i % 2, start, start + 500, i + 1, 0, 7 + i % 3 * 0);
    }
    const Converted trace(recording, {{"x", 0}, {"y", 0}});
    return trace.rows(
        "SELECT op.id || ' ' || op.start_ns || ' ' || op.kind || ' ' || string.value FROM op "
        "JOIN range ON range.id = op.range_id JOIN string ON string.id = range.name_id");
  };
  const std::vector<std::string> expected = convert(0);
  EXPECT_EQ(expected.size(), 50u);
  for (unsigned seed = 1; seed < 6; ++seed) EXPECT_EQ(convert(seed), expected);
}

// Whatever bytes a spool holds: no crash, and every activity is a row or counted.
RC_GTEST_PROP(CudaConvertProperty, AnyBytesAreSafeAndAccountedFor, (uint32_t seed)) {
  std::mt19937 random(seed);
  CudaRecording recording;
  recording.name(1, "k");
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
  const TraceDb db = trace.open();
  const auto sum = [&](const char* condition) {
    return db
        .query_integer(std::string("SELECT IFNULL(SUM(count), 0) FROM loss WHERE source = 'cupti' "
                                   "AND kind ") +
                       condition)
        .value();
  };
  RC_ASSERT(sum("= 'received'") == sum("<> 'received'"));
}

// ---------------------------------------------------------------- waits, pools, external ids

TEST(CudaConvert, WaitsAreRangesOnTheStreamThatWasWaitedFor) {
  CudaRecording recording;
  recording.name(1, "k");
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
  recording.add(RecordType::pool, cuda::PoolBody{100, 0x7000, 4096, 0, 0, 1});
  const Converted trace(recording);
  EXPECT_THAT(
      trace.rows("SELECT string.value || ' ' || range.start_ns || '-' || range.end_ns || ' ' "
                 "|| stream.native_id FROM range JOIN string ON string.id = name_id "
                 "JOIN stream ON stream.id = stream_id ORDER BY range.id"),
      testing::ElementsAre("wait for stream 1500-2500 9", "wait for context 2600-2700 7"));
  EXPECT_EQ(trace.open().query_integer("SELECT COUNT(*) FROM op"), 2);  // no operators
  EXPECT_EQ(trace.loss("cuda_waits", "received"), 5);
  EXPECT_EQ(trace.loss("cuda_waits", "written"), 2);
  EXPECT_EQ(trace.loss("cuda_waits", "zero_timestamp"), 2);
  EXPECT_EQ(trace.loss("cuda_waits", "unmatched"), 1);
}

// ---------------------------------------------------------------- custom allreduces

// Mangled names and layouts (.nv.info of the cubin) as nvcc 13.0 makes them of vLLM's and PyTorch's
// sources.
constexpr const char* kReduce =
    "_ZN4vllm26cross_device_reduce_1stageI13__nv_bfloat16Li8EEEvPNS_8RankDataENS_11RankSignalsE"
    "PNS_6SignalEPT_ii";
constexpr const char* kMultimem = "_Z26multimem_all_reduce_kernelIN3c108BFloat16ELi16EEvPT_mPPjmm";

class CustomAllreduce : public testing::Test {
 protected:
  using Layout = std::vector<cuda::ParameterLayout>;
  static Layout reduce_layout() { return {{0, 8}, {16, 64}, {80, 8}, {88, 8}, {96, 4}, {100, 4}}; }
  static std::string reduce_arguments(int32_t rank, int32_t packs) {
    std::string bytes(104, '\x11');
    std::memcpy(&bytes[96], &rank, 4);
    std::memcpy(&bytes[100], &packs, 4);
    return bytes;
  }
  static std::string multimem_arguments(uint64_t count, uint64_t rank, uint64_t ranks) {
    const uint64_t words[] = {0x7000, count, 0x8000, rank, ranks};
    return {reinterpret_cast<const char*>(words), sizeof(words)};
  }
  // The row of a kernel that was launched with these parameters.
  static std::string row(const std::string& kernel, const Layout& layout,
                         const std::string& arguments, uint8_t flags = 0) {
    CudaRecording recording;
    recording.name(1, kernel);
    recording.add(RecordType::function,
                  cuda::FunctionBody{9, static_cast<uint32_t>(layout.size()), 0}, kernel,
                  {reinterpret_cast<const char*>(layout.data()),
                   layout.size() * sizeof(cuda::ParameterLayout)});
    cuda::LaunchBody body{};
    body.correlation = 11;
    body.function = 9;
    body.flags = flags;
    body.parameter_bytes = static_cast<uint32_t>(arguments.size());
    recording.add(RecordType::launch, body, {}, arguments, {900, 1, 0});
    recording.kernel(1, 1000, 1500, 11);
    const Converted trace(recording);
    const std::vector<std::string> rows = trace.rows(
        "SELECT function || ' ' || IFNULL(bytes, '-') || ' ' || IFNULL(dtype, '-') || ' ' || "
        "IFNULL(ranks, '-') || ' ' || source || ' ' || confidence FROM collective");
    return rows.size() == 1 ? rows[0] : "no row";
  }
  static constexpr const char* kUnknown = "allreduce - - - kernel_name 0.5";
};

TEST_F(CustomAllreduce, TellsItsSizeByItsArguments) {
  EXPECT_EQ(row(kReduce, reduce_layout(), reduce_arguments(3, 1024)),
            "allreduce 16384 __nv_bfloat16 8 params 0.8");
  std::string two(kReduce);
  two.replace(two.find("1stageI13__nv_bfloat16Li8E"), 26, "2stageI6__halfLi4E");
  two.replace(0, 8, "_ZN6sglang");
  EXPECT_EQ(row(two, reduce_layout(), reduce_arguments(0, 2)), "allreduce 32 half 4 params 0.8");
  EXPECT_EQ(
      row(kMultimem, {{0, 8}, {8, 8}, {16, 8}, {24, 8}, {32, 8}}, multimem_arguments(4096, 1, 4)),
      "allreduce 8192 c10::BFloat16 4 params 0.8");
}

TEST_F(CustomAllreduce, StaysUnknownWhereAnythingDiffers) {
  const std::string good = reduce_arguments(3, 1024);
  EXPECT_EQ(row(kReduce, reduce_layout(), reduce_arguments(8, 1024)), kUnknown);  // rank 8 of 8
  EXPECT_EQ(row(kReduce, reduce_layout(), reduce_arguments(-1, 1024)), kUnknown);
  EXPECT_EQ(row(kReduce, reduce_layout(), reduce_arguments(3, 0)), kUnknown);
  EXPECT_EQ(row(kReduce, reduce_layout(), good.substr(0, 100)), kUnknown);
  EXPECT_EQ(row(kReduce, reduce_layout(), good, cuda::kParametersCut), kUnknown);
  EXPECT_EQ(row(kReduce, {{0, 8}, {16, 32}, {48, 8}, {56, 8}, {64, 4}, {68, 4}}, good), kUnknown);
  EXPECT_EQ(row(kReduce, {}, good), kUnknown);
  // Forks with other arguments or types.
  std::string other(kReduce);
  EXPECT_EQ(row(other + "j", reduce_layout(), good), kUnknown);
  EXPECT_EQ(row(other.replace(other.find("Li8E"), 4, "Li9E"), reduce_layout(), good), kUnknown);
  other = kReduce;
  EXPECT_EQ(row(other.replace(other.find("13__nv_bfloat16"), 15, "h"), reduce_layout(), good),
            kUnknown);
  EXPECT_EQ(
      row("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(...)", reduce_layout(), good),
      kUnknown);
  const Layout words{{0, 8}, {8, 8}, {16, 8}, {24, 8}, {32, 8}};
  EXPECT_EQ(row(kMultimem, words, multimem_arguments(4096, 4, 4)), kUnknown);
  EXPECT_EQ(row(kMultimem, words, multimem_arguments(UINT64_MAX / 2, 0, 4)), kUnknown);
  EXPECT_EQ(row(kMultimem, words, multimem_arguments(4096, 0, 1)), kUnknown);
  EXPECT_EQ(row(kMultimem, words, ""), kUnknown);
}

// ---------------------------------------------------------------- counters

constexpr const char* kCounts =
    "SELECT string.value || ' ' || IFNULL(op.graph_node_id, 0) || ' ' || metric || ' ' || "
    "CAST(counter.value AS INTEGER) FROM counter JOIN op ON op.id = op_id "
    "JOIN string ON string.id = op.name_id ORDER BY op.start_ns, op.id, metric";

class Counted : public testing::Test {
 protected:
  Counted() {
    recording_.add(RecordType::counter_setup,
                   cuda::CounterSetupBody{cuda::kDramCounters, 0, cuda::kNoDevice, 0});
    for (uint64_t id : {1, 2, 3}) {
      recording_.add(RecordType::function, cuda::FunctionBody{id, 0, 0},
                     "kernel_" + std::to_string(id));
    }
  }
  void counters(int64_t time_ns, uint32_t correlation, uint32_t total,
                const std::vector<double>& dram_reads, uint32_t first = 0) {
    cuda::CounterBody body{correlation, 0, first, static_cast<uint32_t>(dram_reads.size()),
                           total,       1};
    std::string blob;
    for (const double value : dram_reads) {
      const double all[cuda::kCounters] = {value, -1, -1, -1};
      blob.append(reinterpret_cast<const char*>(all), sizeof(all));
    }
    recording_.add(RecordType::counters, body, {}, blob, {time_ns, 1, 0});
  }
  // Captures one kernel per entry, from the stream that it names, and makes graph 0xe0 of them.
  void capture(const std::vector<uint64_t>& streams) {
    for (size_t i = 0; i < streams.size(); ++i) {
      cuda::LaunchBody launch{};
      launch.correlation = static_cast<uint32_t>(i) + 1;
      launch.stream = streams[i];
      launch.function = i + 1;
      recording_.add(RecordType::launch, launch, {}, {}, {100, 1, 0});
      recording_.node(100, 11 + i, NodeEvent::created);
    }
    // Cloned in another order than captured.
    for (size_t i = streams.size(); i-- > 0;) {
      recording_.node(200, 21 + i, NodeEvent::cloned, 11 + i);
    }
    recording_.add(RecordType::executable, cuda::ExecutableBody{0xe0}, {}, {}, {200, 1, 0});
  }
  void launch_graph(int64_t time_ns, uint32_t correlation) {
    recording_.launch(time_ns, correlation, 1, 0, cuda::LaunchKind::graph, 0xe0);
  }
  CudaRecording recording_;
};

TEST_F(Counted, KernelsOfAGraphInTheOrderOfTheirCapture) {
  capture({5, 5, 5});
  launch_graph(1000, 50);
  counters(4000, 50, 3, {10, 20, 30});
  const Converted trace(recording_);
  EXPECT_THAT(trace.rows(kCounts), testing::ElementsAre("kernel_1 21 dram_read_bytes 10",
                                                        "kernel_2 22 dram_read_bytes 20",
                                                        "kernel_3 23 dram_read_bytes 30"));
  EXPECT_EQ(trace.summary.counters.whole_graphs, 0);
  EXPECT_EQ(trace.open().meta("counters"), "dram");
}

TEST_F(Counted, GraphOfSeveralStreamsIsKnownAsAWhole) {
  capture({5, 6, 5});
  launch_graph(1000, 50);
  counters(4000, 50, 3, {10, 20, 30});
  const Converted trace(recording_);
  EXPECT_THAT(trace.rows(kCounts), testing::ElementsAre("CUDA graph 0 dram_read_bytes 60"));
  EXPECT_EQ(trace.loss("counters", "written"), 3);
  EXPECT_EQ(trace.summary.counters.whole_graphs, 1);
}

TEST_F(Counted, GraphWithAnotherNumberOfKernelsIsKnownAsAWhole) {
  capture({5, 5, 5});
  launch_graph(1000, 50);
  counters(4000, 50, 2, {10, 20});
  launch_graph(5000, 51);
  counters(6000, 51, 5, {1, 2});  // three found no room: not even the sum is known
  const Converted trace(recording_);
  EXPECT_THAT(trace.rows(kCounts), testing::ElementsAre("CUDA graph 0 dram_read_bytes 30"));
  EXPECT_EQ(trace.loss("counters", "unmatched"), 2);
}

TEST_F(Counted, UnknownGraphIsKnownAsAWhole) {
  launch_graph(1000, 50);
  counters(4000, 50, 2, {1, 2});
  const Converted trace(recording_);
  EXPECT_THAT(trace.rows(kCounts), testing::ElementsAre("CUDA graph 0 dram_read_bytes 3"));
}

TEST_F(Counted, RecordsInPiecesAndValuesThatAreNone) {
  capture(std::vector<uint64_t>(40, 5));
  launch_graph(1000, 50);
  std::vector<double> first(32, 7);
  first[3] = std::numeric_limits<double>::quiet_NaN();
  first[4] = -5;
  first[5] = std::numeric_limits<double>::infinity();
  counters(2000, 50, 40, first);
  counters(2100, 50, 40, std::vector<double>(8, 8), 32);
  const Converted trace(recording_);
  EXPECT_EQ(trace.open().query_integer("SELECT COUNT(*) FROM op"), 40);
  EXPECT_EQ(trace.open().query_integer("SELECT COUNT(*) FROM counter"), 37);
  EXPECT_EQ(trace.open().query_integer("SELECT SUM(value) FROM counter"), 29 * 7 + 8 * 8);
}

TEST_F(Counted, WhatCannotBePlacedIsCounted) {
  counters(500, 1, 1, {1});  // before any launch
  recording_.launch(1000, 2, 1, 0, cuda::LaunchKind::kernel, 1);
  counters(1100, 3, 1, {1});      // of another launch
  counters(1200, 2, 1, {1}, 32);  // its first part was lost
  recording_.launch(2000, 4, 1, 0, cuda::LaunchKind::kernel, 1);
  counters(2100, 4, 2, {1, 2});  // something else ran meanwhile
  recording_.add_raw(RecordType::counters, std::string(8, 'x'));
  cuda::CounterBody liar{4, 0, 0, 30, 30, 1};
  recording_.add(RecordType::counters, liar);  // no values behind it
  recording_.add(RecordType::lost, cuda::LostBody{4, cuda::LossPlace::counter_failed, 0});
  recording_.add(RecordType::lost, cuda::LostBody{6, cuda::LossPlace::counter_ranges, 0});
  const Converted trace(recording_);
  EXPECT_EQ(trace.open().query_integer("SELECT COUNT(*) FROM counter"), 0);
  EXPECT_EQ(trace.loss("counters", "unmatched"), 5);
  EXPECT_EQ(trace.loss("counters", "unreadable"), 4);
  EXPECT_EQ(trace.loss("counters", "dropped"), 6);
  EXPECT_EQ(trace.loss("counters", "received"), 15);
}

}  // namespace
}  // namespace preserve
