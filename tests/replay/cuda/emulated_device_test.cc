// SPDX-License-Identifier: Apache-2.0
// What the emulated CUDA runtime can show beyond tests/gpu/gpu_device_test.cc: that nothing leaks,
// and that the order of a step does not depend on luck.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/error.h"
#include "replay/gpu/device.h"
#include "tests/replay/cuda/emulated_cuda.h"
#include "tests/replay/cuda/emulated_gpu.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

#ifndef PRESERVE_FAKE_NCCL  // built without their headers: there are none
#define PRESERVE_FAKE_NCCL "/absent/libnccl.so"
#endif
#ifndef PRESERVE_FAKE_CUBLASLT
#define PRESERVE_FAKE_CUBLASLT "/absent/libcublasLt.so"
#endif

// No library of the machine: they are played.
class PlayedLibraries : public testing::Environment {
 public:
  void SetUp() override {
    ::setenv("PRESERVE_NCCL", PRESERVE_FAKE_NCCL, 1);
    ::setenv("PRESERVE_CUBLASLT", PRESERVE_FAKE_CUBLASLT, 1);
  }
};
const auto* const kPlayed = testing::AddGlobalTestEnvironment(new PlayedLibraries);

GpuNode read_of(GpuRange range, int op, std::vector<int> after = {}) {
  GpuNode node;
  node.op = op;
  node.ranges = {range};
  node.after = std::move(after);
  return node;
}

TEST(EmulatedDevice, NothingIsLeftBehind) {
  const size_t before = emulated::live_objects();
  {
    const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
    const size_t opened = emulated::live_objects();
    const GpuRange memory{gpu->allocate(1 << 16), 1 << 16};
    GpuNode stand_in;
    stand_in.kind = GpuNodeKind::stand_in;
    stand_in.op = 1;
    stand_in.ctas = 2;
    stand_in.link_bytes = 1 << 16;
    stand_in.after = {0};
    for (const bool as_graph : {true, false}) {
      const int graph =
          gpu->add({.nodes = {read_of(memory, 0), stand_in}, .ops = 2, .as_graph = as_graph});
      EXPECT_GT(gpu->run(graph, 2).op_ns[1], 0);
      gpu->drop(graph);
      EXPECT_THROW(gpu->run(graph, 1), Error);
    }
    EXPECT_EQ(emulated::live_objects(), opened + 2);  // what was allocated, and the link's buffer
    EXPECT_THROW(gpu->drop(99), Error);
    gpu->add({.nodes = {read_of(memory, 0)}, .ops = 1});  // goes with the device
  }
  EXPECT_EQ(emulated::live_objects(), before);
}

TEST(EmulatedDevice, EveryOrderThatTheEdgesAllowGivesTheSame) {
  const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
  const GpuRange memory{gpu->allocate(1 << 20), 1 << 20};
  const auto part = [&](int i) {
    return GpuRange{memory.address + static_cast<GpuAddress>(i) * 65'536, 65'536};
  };
  // Two layers with prefetches during their collectives.
  std::vector<GpuNode> nodes;
  for (int layer = 0; layer < 2; ++layer) {
    const int first = static_cast<int>(nodes.size());
    nodes.push_back(read_of(part(layer), 2 * layer,
                            layer == 0 ? std::vector<int>{} : std::vector<int>{first - 2}));
    GpuNode collective;
    collective.kind = GpuNodeKind::stand_in;
    collective.op = 2 * layer + 1;
    collective.ctas = 3;
    collective.hold_ns = 20'000;
    collective.after = {first};
    nodes.push_back(collective);
    GpuNode prefetch;
    prefetch.kind = GpuNodeKind::prefetch;
    prefetch.ranges = {part(layer + 1)};
    prefetch.ctas = 2;
    prefetch.chunk_bytes = 4096;
    prefetch.after = {first + 1};
    prefetch.with_start_of = true;
    prefetch.stream = 1;
    nodes.push_back(prefetch);
  }
  uint64_t checksum = 0;
  for (const bool as_graph : {true, false}) {
    const int graph = gpu->add({.nodes = nodes, .ops = 4, .as_graph = as_graph});
    const GpuRun run = gpu->run(graph, 20);
    if (as_graph) checksum = run.checksum;
    EXPECT_EQ(run.checksum, checksum);
    for (size_t op = 1; op < 4; ++op) {
      EXPECT_GE(run.op_start_ns[op], run.op_start_ns[op - 1] + run.op_ns[op - 1]) << op;
    }
    EXPECT_GE(run.op_ns[1], 20'000);
    EXPECT_GE(run.step_ns, run.op_start_ns[3] + run.op_ns[3]);
  }
}

TEST(EmulatedDevice, ATimerThatIsTooCoarseIsRefused) {
  EXPECT_EQ(open_cuda_device(0)->facts().timer_tick_ns, emulated::kTickNs);
  emulated::timer_step_ns = 1000;
  EXPECT_EQ(open_cuda_device(0)->facts().timer_tick_ns, 1000);
  const size_t before = emulated::live_objects();
  emulated::timer_step_ns = 1'000'000;
  EXPECT_THAT([] { open_cuda_device(0); },
              test::fails_with(ErrorKind::input, testing::HasSubstr("ticks every 1")));
  EXPECT_EQ(emulated::live_objects(), before);
  emulated::timer_step_ns = 1;
}

TEST(EmulatedDevice, TheSetAsideIsChangedOnlyWhenItIsAnother) {
  const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
  emulated::set_asides = 0;
  const std::pair<std::optional<int64_t>, int> calls[] = {
      {std::nullopt, 0}, {65'536, 1}, {65'536, 1}, {std::nullopt, 2}, {std::nullopt, 2}};
  for (const auto& [bytes, changes] : calls) {
    gpu->set_persisting_l2(bytes);
    EXPECT_EQ(emulated::set_asides, changes);
  }
}

TEST(EmulatedDevice, UnderMpsNoSetAsideIsChosen) {
  emulated::under_mps = true;
  const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
  EXPECT_EQ(gpu->facts().persisting_l2_max_bytes, 0);
  EXPECT_NO_THROW(gpu->set_persisting_l2(std::nullopt));
  EXPECT_NO_THROW(gpu->set_persisting_l2(0));
  EXPECT_THROW(gpu->set_persisting_l2(1), Error);
  emulated::under_mps = false;
}

TEST(EmulatedDevice, StreamsWaitForEachOther) {
  const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
  const GpuRange memory{gpu->allocate(1 << 16), 1 << 16};
  // There, back, and a last one that only the end of the step waits for.
  std::vector<GpuNode> nodes{read_of(memory, 0), read_of(memory, 1, {0}), read_of(memory, 2, {1}),
                             read_of(memory, 3, {2})};
  nodes[1].stream = nodes[3].stream = 1;
  const int graph = gpu->add({.nodes = nodes, .ops = 4, .as_graph = false});
  for (int i = 0; i < 20; ++i) {
    const GpuRun run = gpu->run(graph, 3);
    for (size_t op = 1; op < 4; ++op) {
      ASSERT_GE(run.op_start_ns[op], run.op_start_ns[op - 1] + run.op_ns[op - 1]) << op;
    }
  }
}

TEST(EmulatedDevice, ProductsArePaddedWhereTheLibraryWantsIt) {
  const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
  if (!gpu->can_multiply(GpuElement::int8)) GTEST_SKIP() << "built without cublasLt.h";
  EXPECT_TRUE(gpu->can_multiply(GpuElement::bf16));
  EXPECT_FALSE(gpu->can_multiply(GpuElement::fp8));
  GpuNode product;
  product.kind = GpuNodeKind::gemm;
  product.op = 0;
  product.m = 3;
  product.n = 64;
  product.k = 128;
  product.element = GpuElement::int8;
  product.ranges = {{gpu->allocate(64 * 128), 64 * 128}};
  // A second one at the same time, which must not share its scratch memory.
  std::vector<GpuNode> nodes{product, product};
  nodes[1].op = 1;
  const size_t before = emulated::live_objects();
  const int graph = gpu->add({.nodes = nodes, .ops = 2});
  EXPECT_GT(gpu->run(graph, 2).op_ns[1], 0);
  gpu->drop(graph);
  EXPECT_EQ(emulated::live_objects(), before);
  product.element = GpuElement::fp8;
  EXPECT_THROW(gpu->add({.nodes = {product}, .ops = 1}), Error);
  EXPECT_EQ(emulated::live_objects(), before);
}

TEST(EmulatedDevice, LibraryThatFailsLeavesTheDeviceUsable) {
  const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
  try {
    gpu->join(gpu->make_collective_id(), 0, 1);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  GpuNode collective;
  collective.kind = GpuNodeKind::collective;
  collective.op = 0;
  collective.message_bytes = 1024;
  const size_t before = emulated::live_objects();
  // The first fails at once, the second when it is captured, the third is none that NCCL has.
  for (const char* function : {"allgather", "reduce", "sendrecv"}) {
    collective.function = function;
    EXPECT_THROW(gpu->add({.nodes = {collective}, .ops = 1}), Error) << function;
    EXPECT_EQ(emulated::live_objects(), before) << function;
  }
  collective.function = "allreduce";
  const int graph = gpu->add({.nodes = {collective}, .ops = 1});
  EXPECT_GT(gpu->run(graph, 2).op_ns[0], 0);
}

TEST(EmulatedDevice, NodeThatBeginsWithALibrarysCall) {
  const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
  try {
    gpu->join(gpu->make_collective_id(), 0, 1);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  const GpuRange memory{gpu->allocate(1 << 16), 1 << 16};
  GpuNode collective;
  collective.kind = GpuNodeKind::collective;
  collective.function = "allreduce";
  collective.op = 0;
  collective.message_bytes = 1024;
  GpuNode with = read_of(memory, 1, {0});
  with.with_start_of = true;
  with.stream = 1;
  // One kernel in a graph has a start; a call into a stream tells none.
  EXPECT_NO_THROW(gpu->add({.nodes = {collective, with}, .ops = 2}));
  try {
    gpu->add({.nodes = {collective, with}, .ops = 2, .as_graph = false});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_THAT(error.what(), testing::HasSubstr("leaf"));
  }
}

TEST(EmulatedDevice, ChaseNeedsAChain) {
  const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
  const GpuRange memory{gpu->allocate(1 << 16), 1 << 16};
  GpuNode chase;
  chase.kind = GpuNodeKind::chase;
  chase.op = 0;
  chase.ranges = {memory};
  chase.hops = 10;
  EXPECT_THROW(gpu->add({.nodes = {chase}, .ops = 1}), Error);
  EXPECT_THROW(gpu->make_chain(memory.address + 64, 4096, 1), Error);
  EXPECT_THROW(gpu->make_chain(memory.address, 1 << 17, 1), Error);
  gpu->make_chain(memory.address, memory.bytes, 1);
  EXPECT_NO_THROW(gpu->add({.nodes = {chase}, .ops = 1}));
}

}  // namespace
}  // namespace preserve
