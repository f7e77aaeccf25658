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
#include "tests/support/gpu_nodes.h"

namespace preserve {
namespace {

using namespace test;

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

class EmulatedDevice : public testing::Test {
 protected:
  // Why there can be no collectives; empty when there can.
  std::string join_alone() {
    try {
      gpu_->join(gpu_->make_collective_id(), 0, 1);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::unique_ptr<GpuDevice> gpu_ = open_cuda_device(0);
  const GpuRange memory_{gpu_->allocate(1 << 16), 1 << 16};
};

TEST_F(EmulatedDevice, NothingIsLeftBehind) {
  const size_t before = emulated::live_objects();
  {
    const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
    const size_t opened = emulated::live_objects();
    const GpuRange memory{gpu->allocate(1 << 16), 1 << 16};
    GpuNode stand_in = stand_in_of(0, 1, {0});
    stand_in.ctas = 2;
    stand_in.link_bytes = 1 << 16;
    for (const bool as_graph : {true, false}) {
      const int graph =
          gpu->add({.nodes = {read_of({memory}, 0), stand_in}, .ops = 2, .as_graph = as_graph});
      EXPECT_GT(gpu->run(graph, 2).op_ns[1], 0);
      gpu->drop(graph);
      EXPECT_THROW(gpu->run(graph, 1), Error);
    }
    EXPECT_EQ(emulated::live_objects(), opened + 2);  // what was allocated, and the link's buffer
    EXPECT_THROW(gpu->drop(99), Error);
    gpu->add({.nodes = {read_of({memory}, 0)}, .ops = 1});  // goes with the device
  }
  EXPECT_EQ(emulated::live_objects(), before);
}

TEST_F(EmulatedDevice, EveryOrderThatTheEdgesAllowGivesTheSame) {
  const GpuRange memory{gpu_->allocate(1 << 20), 1 << 20};
  const auto part = [&](int i) {
    return GpuRange{memory.address + static_cast<GpuAddress>(i) * 65'536, 65'536};
  };
  // Two layers with prefetches during their collectives.
  std::vector<GpuNode> nodes;
  for (int layer = 0; layer < 2; ++layer) {
    const int first = static_cast<int>(nodes.size());
    nodes.push_back(read_of({part(layer)}, 2 * layer,
                            layer == 0 ? std::vector<int>{} : std::vector<int>{first - 2}));
    nodes.push_back(stand_in_of(20'000, 2 * layer + 1, {first}));
    nodes.back().ctas = 3;
    GpuNode prefetch = prefetch_of(part(layer + 1), {first + 1});
    prefetch.ctas = 2;
    prefetch.with_start_of = true;
    prefetch.stream = 1;
    nodes.push_back(prefetch);
  }
  uint64_t checksum = 0;
  for (const bool as_graph : {true, false}) {
    const int graph = gpu_->add({.nodes = nodes, .ops = 4, .as_graph = as_graph});
    const GpuRun run = gpu_->run(graph, 20);
    if (as_graph) checksum = run.checksum;
    EXPECT_EQ(run.checksum, checksum);
    for (size_t op = 1; op < 4; ++op) {
      EXPECT_GE(run.op_start_ns[op], run.op_start_ns[op - 1] + run.op_ns[op - 1]) << op;
    }
    EXPECT_GE(run.op_ns[1], 20'000);
    EXPECT_GE(run.step_ns, run.op_start_ns[3] + run.op_ns[3]);
  }
}

TEST_F(EmulatedDevice, ATimerThatIsTooCoarseIsRefused) {
  EXPECT_EQ(open_cuda_device(0)->facts().timer_tick_ns, emulated::kTickNs);
  emulated::timer_step_ns = 1000;
  EXPECT_EQ(open_cuda_device(0)->facts().timer_tick_ns, 1000);
  const size_t before = emulated::live_objects();
  emulated::timer_step_ns = 1'000'000;
  EXPECT_THAT([] { open_cuda_device(0); },
              fails_with(ErrorKind::input, testing::HasSubstr("ticks every 1")));
  EXPECT_EQ(emulated::live_objects(), before);
  emulated::timer_step_ns = 1;
}

TEST_F(EmulatedDevice, TheSetAsideIsChangedOnlyWhenItIsAnother) {
  emulated::set_asides = 0;
  const std::pair<std::optional<int64_t>, int> calls[] = {
      {std::nullopt, 0}, {65'536, 1}, {65'536, 1}, {std::nullopt, 2}, {std::nullopt, 2}};
  for (const auto& [bytes, changes] : calls) {
    gpu_->set_persisting_l2(bytes);
    EXPECT_EQ(emulated::set_asides, changes);
  }
}

TEST_F(EmulatedDevice, UnderMpsNoSetAsideIsChosen) {
  emulated::under_mps = true;
  gpu_ = open_cuda_device(0);
  EXPECT_EQ(gpu_->facts().persisting_l2_max_bytes, 0);
  EXPECT_NO_THROW(gpu_->set_persisting_l2(std::nullopt));
  EXPECT_NO_THROW(gpu_->set_persisting_l2(0));
  EXPECT_THROW(gpu_->set_persisting_l2(1), Error);
  emulated::under_mps = false;
}

TEST_F(EmulatedDevice, StreamsWaitForEachOther) {
  // There, back, and a last one that only the end of the step waits for.
  std::vector<GpuNode> nodes{read_of({memory_}, 0), read_of({memory_}, 1, {0}),
                             read_of({memory_}, 2, {1}), read_of({memory_}, 3, {2})};
  nodes[1].stream = nodes[3].stream = 1;
  const int graph = gpu_->add({.nodes = nodes, .ops = 4, .as_graph = false});
  for (int i = 0; i < 20; ++i) {
    const GpuRun run = gpu_->run(graph, 3);
    for (size_t op = 1; op < 4; ++op) {
      ASSERT_GE(run.op_start_ns[op], run.op_start_ns[op - 1] + run.op_ns[op - 1]) << op;
    }
  }
}

TEST_F(EmulatedDevice, ProductsArePaddedWhereTheLibraryWantsIt) {
  if (!gpu_->can_multiply(GpuElement::int8)) GTEST_SKIP() << "built without cublasLt.h";
  EXPECT_TRUE(gpu_->can_multiply(GpuElement::bf16));
  EXPECT_FALSE(gpu_->can_multiply(GpuElement::fp8));
  GpuNode product = product_of(3, 64, 128, GpuElement::int8, {gpu_->allocate(64 * 128), 64 * 128});
  // A second one at the same time, which must not share its scratch memory.
  std::vector<GpuNode> nodes{product, product};
  nodes[1].op = 1;
  const size_t before = emulated::live_objects();
  const int graph = gpu_->add({.nodes = nodes, .ops = 2});
  EXPECT_GT(gpu_->run(graph, 2).op_ns[1], 0);
  gpu_->drop(graph);
  EXPECT_EQ(emulated::live_objects(), before);
  product.element = GpuElement::fp8;
  EXPECT_THROW(gpu_->add({.nodes = {product}, .ops = 1}), Error);
  EXPECT_EQ(emulated::live_objects(), before);
}

TEST_F(EmulatedDevice, LibraryThatFailsLeavesTheDeviceUsable) {
  if (const std::string why = join_alone(); !why.empty()) GTEST_SKIP() << why;
  GpuNode collective = allreduce_of(1024, 0);
  const size_t before = emulated::live_objects();
  // The first fails at once, the second when it is captured, the third is none that NCCL has.
  for (const char* function : {"allgather", "reduce", "sendrecv"}) {
    collective.function = function;
    EXPECT_THROW(gpu_->add({.nodes = {collective}, .ops = 1}), Error) << function;
    EXPECT_EQ(emulated::live_objects(), before) << function;
  }
  collective.function = "allreduce";
  const int graph = gpu_->add({.nodes = {collective}, .ops = 1});
  EXPECT_GT(gpu_->run(graph, 2).op_ns[0], 0);
}

TEST_F(EmulatedDevice, NodeThatBeginsWithALibrarysCall) {
  if (const std::string why = join_alone(); !why.empty()) GTEST_SKIP() << why;
  const GpuNode collective = allreduce_of(1024, 0);
  GpuNode with = read_of({memory_}, 1, {0});
  with.with_start_of = true;
  with.stream = 1;
  // One kernel in a graph has a start; a call into a stream tells none.
  EXPECT_NO_THROW(gpu_->add({.nodes = {collective, with}, .ops = 2}));
  EXPECT_THAT(
      [&] {
        gpu_->add({.nodes = {collective, with}, .ops = 2, .as_graph = false});
      },
      fails_with(ErrorKind::input, testing::HasSubstr("leaf")));
}

TEST_F(EmulatedDevice, ChaseNeedsAChain) {
  const GpuNode chase = chase_of(memory_, 10);
  EXPECT_THROW(gpu_->add({.nodes = {chase}, .ops = 1}), Error);
  EXPECT_THROW(gpu_->make_chain(memory_.address + 64, 4096, 1), Error);
  EXPECT_THROW(gpu_->make_chain(memory_.address, 1 << 17, 1), Error);
  gpu_->make_chain(memory_.address, memory_.bytes, 1);
  EXPECT_NO_THROW(gpu_->add({.nodes = {chase}, .ops = 1}));
}

}  // namespace
}  // namespace preserve
