// SPDX-License-Identifier: Apache-2.0
// The simulated GPU does what its properties say: otherwise tests that use it prove nothing.
#include "tests/support/fake_gpu.h"

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/gpu_nodes.h"

namespace preserve::test {
namespace {

constexpr int64_t kMiB = 1 << 20;

GpuNode read_node(GpuAddress address, int64_t bytes, std::vector<int> after = {}, int op = 0) {
  return read_of({{address, bytes}}, op, std::move(after));
}

GpuNode stand_in_node(int64_t hold_ns, int64_t link_bytes) {
  GpuNode node = stand_in_of(hold_ns, 0);
  node.link_bytes = link_bytes;
  return node;
}

class FakeGpuTest : public testing::Test {
 protected:
  static GpuRun run(FakeGpu& gpu, std::vector<GpuNode> nodes) {
    GpuGraph graph;
    graph.nodes = std::move(nodes);
    for (const GpuNode& node : graph.nodes) graph.ops = std::max(graph.ops, node.op + 1);
    const int number = gpu.add(graph);
    GpuRun result = gpu.run(number, 1);
    gpu.drop(number);
    return result;
  }
  GpuRun run(std::vector<GpuNode> nodes) { return run(gpu_, std::move(nodes)); }

  FakeGpu gpu_;
  const GpuAddress data_ = gpu_.allocate(8 * kMiB);
};

TEST_F(FakeGpuTest, ReadsColdThenHot) {
  EXPECT_NEAR(run({read_node(data_, 2 * kMiB)}).op_ns[0], 2 * kMiB / 100.0, 1);
  EXPECT_NEAR(run({read_node(data_, 2 * kMiB)}).op_ns[0], 2 * kMiB / 400.0, 1);
}

TEST_F(FakeGpuTest, LeavesTheCacheInOrderOfLastUse) {
  run({read_node(data_, 4 * kMiB)});
  EXPECT_EQ(gpu_.cached_bytes({data_, kMiB}), 0);
  EXPECT_EQ(gpu_.cached_bytes({data_ + kMiB, 3 * kMiB}), 3 * kMiB);
  EXPECT_NEAR(run({read_node(data_, 4 * kMiB)}).op_ns[0], 4 * kMiB / 100.0, 1);
}

TEST_F(FakeGpuTest, NodesAtTheSameTimeShareTheMemory) {
  const GpuRun both = run({read_node(data_, kMiB), read_node(data_ + kMiB, kMiB, {}, 1)});
  EXPECT_NEAR(both.op_ns[0], 2 * kMiB / 100.0, 100);
  EXPECT_NEAR(both.op_ns[1], 2 * kMiB / 100.0, 100);
}

TEST_F(FakeGpuTest, APrefetchBesideACollectiveMakesTheNextReadHot) {
  const GpuRun with =
      run({stand_in_node(20'000, 0), prefetch_of({data_, kMiB}), read_node(data_, kMiB, {0}, 1)});
  EXPECT_NEAR(with.op_ns[0], 20'000, 1);
  EXPECT_NEAR(with.op_ns[1], kMiB / 400.0, 1);
  EXPECT_EQ(gpu_.prefetched_bytes(), kMiB);
}

TEST_F(FakeGpuTest, EvictLastStaysOnlyInTheSetAside) {
  const GpuAddress kept = gpu_.allocate(kMiB);
  const GpuAddress flood = gpu_.allocate(8 * kMiB);
  GpuNode last = prefetch_of({kept, kMiB});
  last.eviction = GpuEviction::last;
  run({last});
  run({read_node(flood, 8 * kMiB)});
  EXPECT_EQ(gpu_.cached_bytes({kept, kMiB}), 0);
  gpu_.set_persisting_l2(kMiB / 2);
  run({last});
  run({read_node(flood, 8 * kMiB)});
  EXPECT_EQ(gpu_.cached_bytes({kept, kMiB}), kMiB / 2);
  gpu_.set_persisting_l2(std::nullopt);
  run({read_node(flood, 8 * kMiB)});
  EXPECT_EQ(gpu_.cached_bytes({kept, kMiB}), 0);
}

TEST_F(FakeGpuTest, TheLinkTakesItsTimeAndSuffersFromPrefetches) {
  FakeGpu gpu({.link_slowdown = 1.5});
  const GpuAddress data = gpu.allocate(8 * kMiB);
  EXPECT_NEAR(run(gpu, {stand_in_node(1000, kMiB)}).op_ns[0], kMiB / 20.0, 1);
  const GpuRun both = run(gpu, {stand_in_node(1000, kMiB), prefetch_of({data, 8 * kMiB})});
  EXPECT_GT(both.op_ns[0], 1.4 * kMiB / 20.0);
}

TEST_F(FakeGpuTest, EdgesHaveTheirStartLatency) {
  GpuNode leaf = read_node(data_, kMiB, {0}, 1);
  const GpuNode first = stand_in_node(10'000, 0);
  EXPECT_NEAR(run({first, leaf}).op_start_ns[1], 10'000 + 1000, 1);
  leaf.with_start_of = true;
  EXPECT_NEAR(run({first, leaf}).op_start_ns[1], 500, 1);
}

TEST_F(FakeGpuTest, WaitsAreHeldInsideTheKernel) {
  GpuNode node = read_node(data_, kMiB);
  node.wait_before_ns = 3000;
  node.wait_after_ns = 500;
  const GpuRun run_of = run({node});
  EXPECT_NEAR(run_of.op_start_ns[0], 3000, 1);
  EXPECT_NEAR(run_of.op_ns[0], kMiB / 100.0 + 500, 1);
  EXPECT_NEAR(run_of.step_ns, 1000 + 3000 + kMiB / 100.0 + 500, 1);
}

TEST_F(FakeGpuTest, AChaseCostsAHopEach) {
  gpu_.make_chain(data_, kMiB, 7);
  const GpuNode chase = chase_of({data_, kMiB}, kMiB / 128);
  run({chase});
  EXPECT_EQ(gpu_.cached_bytes({data_, kMiB}), kMiB) << "the chain visits every line";
  EXPECT_NEAR(run({chase}).op_ns[0], 150.0 * kMiB / 128, 1);
}

TEST_F(FakeGpuTest, HalvesOfASplitL2) {
  FakeGpu gpu({.far_bytes_per_s = 200e9});
  EXPECT_EQ(gpu.sm_halves().size(), 132U);
  const GpuAddress data = gpu.allocate(kMiB);
  GpuNode fetch = prefetch_of({data, kMiB});
  fetch.sm_half = 1;
  run(gpu, {fetch});
  GpuNode reader = read_node(data, kMiB);
  reader.sm_half = 1;
  EXPECT_NEAR(run(gpu, {reader}).op_ns[0], kMiB / 200.0, 1);
  reader.sm_half = 2;
  EXPECT_NEAR(run(gpu, {reader}).op_ns[0], kMiB / 100.0, 1);
}

TEST_F(FakeGpuTest, ChecksumsAreOfTheBytesThatAreThere) {
  GpuNode hot = read_node(data_, kMiB);
  hot.wrap_bytes = 4096;
  const uint64_t sum = run({read_node(data_, kMiB)}).checksum;
  EXPECT_EQ(run({hot}).checksum, sum);
  EXPECT_NE(run({read_node(data_, kMiB - 16)}).checksum, sum);
  gpu_.corrupt(data_ + 5000);
  EXPECT_NE(run({read_node(data_, kMiB)}).checksum, sum);
}

TEST_F(FakeGpuTest, NoiseComesFromTheSeed) {
  FakeGpu one({.noise = 0.1}), same({.noise = 0.1}), other({.noise = 0.1, .seed = 2});
  const auto time = [&](FakeGpu& gpu) {
    return run(gpu, {read_node(gpu.allocate(kMiB), kMiB)}).op_ns[0];
  };
  const double time_ns = time(one);
  EXPECT_EQ(time_ns, time(same));
  EXPECT_NE(time_ns, time(other));
}

TEST_F(FakeGpuTest, StreamsAreInOrder) {
  const GpuRun serial =
      gpu_.run(gpu_.add({.nodes = {read_node(data_, kMiB), read_node(data_ + kMiB, kMiB, {}, 1)},
                         .ops = 2,
                         .as_graph = false}),
               1);
  EXPECT_NEAR(serial.op_start_ns[1], kMiB / 100.0 + 1000, 1);
}

TEST_F(FakeGpuTest, BadGraphsAreRefused) {
  const GpuAddress data = gpu_.allocate(kMiB);
  const auto refuses = [&](const GpuNode& node) { EXPECT_THROW(run({node}), Error); };
  refuses(read_node(data + 8, kMiB - 16));
  refuses(read_node(data, kMiB + 16));
  refuses(read_node(data - 16, 16));
  refuses(read_node(data, 0));
  refuses(read_node(data, 16, {0}));
  GpuNode fetch = prefetch_of({data, kMiB});
  fetch.chunk_bytes = 100;
  refuses(fetch);
  fetch = prefetch_of({data, kMiB});
  fetch.ctas = 133;
  refuses(fetch);
  GpuNode writing = prefetch_of({data, kMiB});
  writing.writes = {{data, 16}};
  refuses(writing);
  // No type that it can multiply.
  refuses(product_of(1, 64, 64, GpuElement::fp16, {data, 2 * 64 * 64}));
  EXPECT_THROW(gpu_.allocate(int64_t{2} << 30), Error);
  EXPECT_THROW(gpu_.set_persisting_l2(2 * kMiB), Error);
}

}  // namespace
}  // namespace preserve::test
