// SPDX-License-Identifier: Apache-2.0
// Fabricated CUPTI records of every struct generation through the real decoder, converter and
// database.
#include <cupti.h>
#include <cupti_activity_deprecated.h>
#include <gtest/gtest.h>

#include "profiler/collector/cuda/activity.h"
#include "tests/profiler/convert/cuda/records.h"

namespace preserve {
namespace {

using cuda::ActivityDecoder;
using test::CudaRecording;

// Followed by bytes that would be read if a field beyond the struct were believed.
template <typename Record>
struct Poisoned {
  Record record{};
  unsigned char behind[128];
  Poisoned() { std::memset(behind, 0x5a, sizeof(behind)); }
};

// Records that are decoded one after another.
struct Decoding {
  explicit Decoding(uint32_t version = 130001) : decoder(version) {}
  template <typename Record>
  size_t add(const Record& record) {
    const size_t bytes = decoder.decode(&record, out.data());
    recording.add_spool_bytes(out.data(), bytes);
    return bytes;
  }
  cuda::Run run() { return recording.reader.finish(); }

  ActivityDecoder decoder;
  std::vector<char> out = std::vector<char>(ActivityDecoder::kMaxBytes);
  CudaRecording recording;
};

template <typename Record>
cuda::Run decode(const Record& record, uint32_t version) {
  Decoding decoding(version);
  decoding.add(record);
  return decoding.run();
}

template <typename Kernel>
void fill(Kernel& kernel) {
  kernel.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
  kernel.start = 1000;
  kernel.end = 2500;
  kernel.deviceId = 3;
  kernel.contextId = 1;
  kernel.streamId = 13;
  kernel.correlationId = 77;
  kernel.gridX = 4;
  kernel.gridY = 2;
  kernel.gridZ = 1;
  kernel.blockX = 256;
  kernel.blockY = kernel.blockZ = 1;
  kernel.name = "void gemm<float>(float*)";
}

template <typename Kernel>
void check_generation(uint32_t version, uint32_t generation, bool node, bool graph) {
  SCOPED_TRACE(generation);
  Poisoned<Kernel> kernel;
  fill(kernel.record);
  if constexpr (requires { kernel.record.graphNodeId; }) {
    kernel.record.graphNodeId = 0xfeed0001;
    kernel.record.graphId = 9;
  }
  const cuda::Run run = decode(kernel.record, version);
  ASSERT_EQ(run.activities.size(), 1u);
  const cuda::Activity& activity = run.activities[0];
  EXPECT_EQ(activity.start_ns, 1000);
  EXPECT_EQ(activity.end_ns, 2500);
  EXPECT_EQ(activity.correlation, 77);
  EXPECT_EQ(activity.blocks, 8u);
  EXPECT_EQ(run.names[activity.name], "void gemm<float>(float*)");
  EXPECT_EQ(run.streams[0].device, 3);
  EXPECT_EQ(run.streams[0].number, 13);
  EXPECT_EQ(activity.graph_node, node ? 0xfeed0001 : gpu::kNoNode);
  EXPECT_EQ(activity.graph, graph ? 9 : 0);
  EXPECT_EQ(run.newest_kernel, generation);
}

TEST(CudaActivity, KernelsOfEveryGeneration) {
  check_generation<CUpti_ActivityKernel4>(12, 4, false, false);
  check_generation<CUpti_ActivityKernel5>(13, 5, true, false);
  check_generation<CUpti_ActivityKernel5>(14, 5, true, true);
  check_generation<CUpti_ActivityKernel6>(15, 6, true, true);
  check_generation<CUpti_ActivityKernel7>(17, 7, true, true);
  check_generation<CUpti_ActivityKernel8>(18, 8, true, true);
  check_generation<CUpti_ActivityKernel9>(19, 9, true, true);
  check_generation<CUpti_ActivityKernel9>(28, 9, true, true);
  check_generation<CUpti_ActivityKernel10>(130000, 10, true, true);
  check_generation<CUpti_ActivityKernel10>(130400, 10, true, true);  // newer than the headers
}

template <typename Copy>
cuda::Activity copy_of(uint32_t version) {
  Poisoned<Copy> copy;
  copy.record.kind = CUPTI_ACTIVITY_KIND_MEMCPY;
  copy.record.copyKind = CUPTI_ACTIVITY_MEMCPY_KIND_HTOD;
  copy.record.bytes = 4096;
  copy.record.start = 10;
  copy.record.end = 20;
  copy.record.streamId = 7;
  copy.record.correlationId = 5;
  if constexpr (requires { copy.record.graphNodeId; }) copy.record.graphNodeId = 11;
  if constexpr (requires { copy.record.graphId; }) copy.record.graphId = 12;
  const cuda::Run run = decode(copy.record, version);
  EXPECT_EQ(run.names[run.activities.at(0).name], "memcpy HtoD");
  return run.activities.at(0);
}

TEST(CudaActivity, CopiesOfEveryGeneration) {
  for (const auto& [activity, node, graph] :
       {std::tuple{copy_of<CUpti_ActivityMemcpy>(12), gpu::kNoNode, 0},
        std::tuple{copy_of<CUpti_ActivityMemcpy3>(13), int64_t{11}, 0},
        std::tuple{copy_of<CUpti_ActivityMemcpy4>(15), int64_t{11}, 12},
        std::tuple{copy_of<CUpti_ActivityMemcpy5>(19), int64_t{11}, 12},
        std::tuple{copy_of<CUpti_ActivityMemcpy6>(130001), int64_t{11}, 12}}) {
    EXPECT_EQ(activity.bytes, 4096);
    EXPECT_EQ(activity.correlation, 5);
    EXPECT_EQ(activity.graph_node, node);
    EXPECT_EQ(activity.graph, graph);
    EXPECT_TRUE(activity.is_copy);
  }
}

TEST(CudaActivity, FillsAndPeerCopies) {
  Poisoned<CUpti_ActivityMemset> fill;
  fill.record.kind = CUPTI_ACTIVITY_KIND_MEMSET;
  fill.record.bytes = 100;
  fill.record.start = 1;
  fill.record.end = 2;
  const cuda::Run old_fill = decode(fill.record, 12);
  EXPECT_EQ(old_fill.activities.at(0).bytes, 100);
  EXPECT_EQ(old_fill.activities.at(0).graph_node, gpu::kNoNode);
  EXPECT_EQ(old_fill.names[old_fill.activities[0].name], "memset");

  Poisoned<CUpti_ActivityMemcpyPtoP4> peer;
  peer.record.kind = CUPTI_ACTIVITY_KIND_MEMCPY2;
  peer.record.bytes = 7;
  peer.record.start = 1;
  peer.record.end = 2;
  peer.record.graphNodeId = 3;
  const cuda::Run run = decode(peer.record, 130001);
  EXPECT_EQ(run.names[run.activities.at(0).name], "memcpy PtoP");
  EXPECT_EQ(run.activities[0].graph_node, 3);
}

TEST(CudaActivity, AllocationsLiveFromAllocationToRelease) {
  Decoding decoding;
  const auto memory = [&](CUpti_ActivityMemoryOperationType operation, uint64_t at_ns) {
    CUpti_ActivityMemory4 record{};
    record.kind = CUPTI_ACTIVITY_KIND_MEMORY2;
    record.memoryOperationType = operation;
    record.address = 0x7000;
    record.bytes = 512;
    record.timestamp = at_ns;
    record.source = reinterpret_cast<const char*>(1);  // never looked at: nobody asked for it
    decoding.add(record);
  };
  memory(CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_ALLOCATION, 10);
  memory(CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_RELEASE, 20);
  memory(CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_ALLOCATION, 30);
  const cuda::Run run = decoding.run();
  ASSERT_EQ(run.allocations.size(), 2u);
  EXPECT_EQ(run.allocations[0].from_ns, 10);
  EXPECT_EQ(run.allocations[0].to_ns, 20);
  EXPECT_EQ(run.allocations[1].from_ns, 30);
  EXPECT_EQ(run.allocations[1].to_ns, INT64_MAX);
}

TEST(CudaActivity, DeviceContextGraphAndOverhead) {
  Decoding decoding;
  CUpti_ActivityDevice5 device{};
  device.kind = CUPTI_ACTIVITY_KIND_DEVICE;
  device.id = 1;
  device.name = "NVIDIA H100 80GB HBM3";
  device.l2CacheSize = 50 << 20;
  device.globalMemorySize = uint64_t{80} << 30;
  device.globalMemoryBandwidth = 3'352'320'000;  // KB/s
  device.numMultiprocessors = 132;
  decoding.add(device);
  CUpti_ActivityGraphTrace graph{};
  graph.kind = CUPTI_ACTIVITY_KIND_GRAPH_TRACE;
  graph.start = 5;
  graph.end = 9;
  graph.graphId = 4;
  decoding.add(graph);
  Poisoned<CUpti_ActivityOverhead> overhead;
  overhead.record.kind = CUPTI_ACTIVITY_KIND_OVERHEAD;
  overhead.record.overheadKind = CUPTI_ACTIVITY_OVERHEAD_CUPTI_BUFFER_FLUSH;
  overhead.record.start = 100;
  overhead.record.end = 150;
  decoding.add(overhead.record);
  CUpti_ActivitySynchronization2 synchronize{};
  synchronize.kind = CUPTI_ACTIVITY_KIND_SYNCHRONIZATION;
  EXPECT_GT(decoding.add(synchronize), 0u);
  CUpti_ActivityContext3 context{};
  context.kind = CUPTI_ACTIVITY_KIND_CONTEXT;
  EXPECT_GT(decoding.add(context), 0u);

  const cuda::Run run = decoding.run();
  const auto& [body, name] = run.devices.at(1);
  EXPECT_EQ(name, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(body.bandwidth_bytes_per_s, 3'352'320'000'000);
  EXPECT_EQ(body.cache_bytes, 50 << 20);
  EXPECT_EQ(body.units, 132u);
  EXPECT_EQ(run.graphs.at(0).place.graph, 4u);
  EXPECT_EQ(run.overheads.at(1 << 16), (std::pair<int64_t, int64_t>{1, 50}));
}

TEST(CudaActivity, NamesAreWrittenOnceAndMayBeMissing) {
  Decoding decoding;
  CUpti_ActivityKernel10 kernel{};
  fill(kernel);
  const size_t first = decoding.add(kernel);
  EXPECT_LT(decoding.add(kernel), first);
  decoding.decoder.forget_names();
  EXPECT_EQ(decoding.add(kernel), first);
  kernel.name = nullptr;
  EXPECT_EQ(decode(kernel, 130001).activities.size(), 1u);
}

TEST(CudaActivity, MoreNamesThanTheTableHolds) {
  Decoding decoding;
  CUpti_ActivityKernel10 kernel{};
  fill(kernel);
  constexpr int kNames = 40'000;
  for (int i = 0; i < kNames; ++i) {
    const std::string name = "kernel_" + std::to_string(i);
    kernel.name = name.c_str();
    decoding.add(kernel);
  }
  const cuda::Run run = decoding.run();
  EXPECT_EQ(run.names[run.activities.back().name], "kernel_39999");
  EXPECT_EQ(run.names[run.activities.front().name], "kernel_0");
}

TEST(CudaActivity, LongestNameFits) {
  Decoding decoding;
  const std::string name(100'000, 'x');
  CUpti_ActivityKernel10 kernel{};
  fill(kernel);
  kernel.name = name.c_str();
  EXPECT_LE(decoding.add(kernel), ActivityDecoder::kMaxBytes);
  const cuda::Run run = decoding.run();
  EXPECT_EQ(run.names[run.activities.at(0).name].size(), spool::kMaxTextBytes);
}

TEST(CudaActivity, KindsThatWereNotAskedForAreCounted) {
  Decoding decoding;
  CUpti_Activity record{};
  record.kind = CUPTI_ACTIVITY_KIND_JIT;
  EXPECT_EQ(decoding.add(record), 0u);
  EXPECT_EQ(decoding.decoder.unknown_kinds(), 1u);
  record.kind = CUPTI_ACTIVITY_KIND_CUDA_EVENT;  // no loss: CUPTI 12 sends these unasked
  EXPECT_EQ(decoding.add(record), 0u);
  EXPECT_EQ(decoding.decoder.unknown_kinds(), 1u);
}

}  // namespace
}  // namespace preserve
