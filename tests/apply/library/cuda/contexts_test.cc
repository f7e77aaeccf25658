// SPDX-License-Identifier: Apache-2.0
// What goes on around the graphs of a session: memory, contexts, several GPUs.
#include <gtest/gtest.h>

#include "tests/apply/library/cuda/process.h"

namespace preserve {
namespace {

using namespace apply;
using namespace test;

// Whether a launch that is not measured fetches.
bool fetches(GraphSession& session, CUgraphExec executable, CUstream stream) {
  emulated::requests().clear();
  EXPECT_FALSE(session.launching(executable, stream));
  cuGraphLaunch(executable, stream);
  cudaStreamSynchronize(stream);
  return !emulated::requests().empty();
}

TEST(GraphContexts, FreedMemoryIsNotFetched) {
  Running process(test::decode_step(3));
  const CUdeviceptr weights = emulated::allocation_around(process.program->weight(0)).base;
  while (!process.fetched) process.launch();
  process.session->freed(weights - 16, 1);
  process.session->freed(weights + 16, 1);
  process.session->freed(weights - 32, 32);
  while (!process.fetched) process.launch();
  EXPECT_EQ(process.header.off, Off::none);
  process.session->freed(weights, 1);
  EXPECT_EQ(process.header.off, Off::none);  // the program may just be ending
  EXPECT_TRUE(process.all_off());
  EXPECT_EQ(process.header.off, Off::memory_gone);

  Running moved(test::decode_step(3));
  moved.steps(8);
  const CUdeviceptr old = emulated::allocation_around(moved.program->weight(0)).base;
  const std::unique_ptr<Program> kept = std::move(moved.program);
  moved.capture();
  ASSERT_EQ(moved.update(), CUDA_SUCCESS);
  moved.session->freed(old - 4096, 8192);  // by unmapping what lies around it
  moved.steps(8);
  EXPECT_EQ(moved.header.off, Off::none);
  moved.session->destroyed(kept->graph());
}

// What a launch into one stream writes may wait there while another stream goes on.
TEST(GraphContexts, FreedMemoryIsNotFetchedWhateverOtherStreamsWaitFor) {
  const Step step = test::decode_step(3);
  Running process(step);
  Program other(step, 512);
  const Instantiated second(*process.session, other.graph());
  const Stream beside;
  while (!process.fetched) process.launch();
  process.session->turn_off(Off::slow);
  CUevent_st held{1, 0};
  process.stream->queue.push_back({{}, &held, 1});
  process.launch(false);  // its write waits
  EXPECT_TRUE(fetches(*process.session, second.executable, beside));
  process.session->freed(emulated::allocation_around(other.weight(0)).base, 1);
  EXPECT_FALSE(fetches(*process.session, second.executable, beside));
  EXPECT_FALSE(fetches(*process.session, second.executable, beside));
  held.completed = 1;
  emulated::drain();
  process.session->destroyed(other.graph());
}

// It becomes a part of a graph whose launches nobody can tell from others.
TEST(GraphContexts, AfterALaunchIntoACaptureNoGraphFetches) {
  Running process(test::decode_step(3));
  CUgraphExec unknown = nullptr;
  ASSERT_EQ(cuGraphInstantiateWithFlags(&unknown, process.program->graph(), 0), CUDA_SUCCESS);
  while (!process.fetched) process.launch();
  CUgraph outer = nullptr;
  cuGraphCreate(&outer, 0);
  process.stream->capturing = outer;
  EXPECT_FALSE(process.session->launching(process.executable, process.stream));
  process.stream->capturing = nullptr;
  cuGraphDestroy(outer);
  EXPECT_EQ(process.header.off, Off::copied);
  const Stream beside;
  CUevent_st held{1, 0};
  process.stream->queue.push_back({{}, &held, 1});
  process.launch(false);  // its write waits
  EXPECT_FALSE(fetches(*process.session, unknown, beside));
  held.completed = 1;
  emulated::drain();
  cuGraphExecDestroy(unknown);
}

// What fails as fetches end is tried again, and an event is only made in the context it is for.
TEST(GraphContexts, TheEndOfFetchesIsTriedAgain) {
  apply::Driver driver = test::emulated_driver();
  static int failures;
  driver.create_event = [](CUevent* event, unsigned flags) {
    if (flags == CU_EVENT_DISABLE_TIMING && failures-- > 0) return CUDA_ERROR_OUT_OF_MEMORY;
    return cuEventCreate(event, flags);
  };
  failures = 2;
  Running process(test::decode_step(3), Mode::guard, driver);
  while (!process.fetched) process.launch();
  process.session->turn_off(Off::slow);
  process.steps(2);
  emulated::current_device = 1;
  process.steps(2);
  emulated::current_device = 0;
  EXPECT_EQ(process.session->needs(), GraphSession::Needs::all);
  process.steps(2);
  EXPECT_EQ(process.session->needs(), GraphSession::Needs::changes);
  EXPECT_EQ(failures, -1);
}

TEST(GraphContexts, MemoryThatIsFreedDuringAnInstantiationIsNotFetched) {
  Captured process(test::decode_step(3));
  const auto begun = process.session->instantiating(process.program->graph(), 0);
  ASSERT_EQ(cuGraphInstantiateWithFlags(&process.executable, process.program->graph(), begun.flags),
            CUDA_SUCCESS);
  process.session->freed(emulated::allocation_around(process.program->weight(0)).base, 1);
  process.session->instantiated(process.program->graph(), process.executable, begun, true);
  EXPECT_TRUE(process.all_off());
  EXPECT_EQ(process.header.off, Off::memory_gone);
}

TEST(GraphContexts, ContextsOfOtherDevicesFollowTheArms) {
  const Step step = test::decode_step(3);
  Running process(step);
  emulated::current_device = 1;
  process.session->context_ready();
  Program other(step, 512);
  emulated::memory_device = 1;
  const Instantiated second(*process.session, other.graph());
  EXPECT_TRUE(second.begun.matched);
  EXPECT_EQ(process.header.graphs.missing_bytes, 0u);
  for (int i = 0; i < 40; ++i) {
    emulated::current_device = 0;
    process.launch();
    emulated::current_device = 1;
    EXPECT_EQ(fetches(*process.session, second.executable, process.stream), process.fetched) << i;
  }
  process.session->destroyed(other.graph());
}

TEST(GraphContexts, AContextThatIsDestroyedIsAskedNothingMore) {
  Running process(test::decode_step(3));
  process.steps(10);
  process.launch(false);
  EXPECT_EQ(process.header.locks, 1u);
  int calls = emulated::driver_calls;
  process.session->destroyed(emulated::context_of(0));
  EXPECT_EQ(emulated::driver_calls, calls);
  EXPECT_EQ(process.header.state, State::searching);
  EXPECT_FALSE(process.session->launching(process.executable, process.stream));
  EXPECT_EQ(emulated::driver_calls, calls);
  // A new one may have its address, and the program begins anew.
  process.session->context_ready();
  EXPECT_GT(emulated::driver_calls, calls + 5);
  emulated::drain();
  cuGraphExecDestroy(process.executable);
  process.capture();
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  process.steps(30);
  EXPECT_EQ(process.header.locks, 2u);
  EXPECT_EQ(process.header.off, Off::none);
  EXPECT_EQ(process.header.graphs.edited, 2u);
  process.session->destroyed(emulated::context_of(0));
  calls = emulated::driver_calls;
  process.session->destroyed(emulated::context_of(0));
  process.session->destroyed(static_cast<CUcontext>(nullptr));
  EXPECT_EQ(emulated::driver_calls, calls);
}

// Executables go with their context without a word, and a new one may get the handle.
TEST(GraphContexts, AHandleThatIsUsedAgainIsTheNewOnes) {
  Running process(test::decode_step(3));
  process.steps(10);
  Program other(test::decode_step(5), 512);
  const auto begun = process.session->instantiating(other.graph(), 0);
  EXPECT_FALSE(begun.matched);
  process.session->instantiated(other.graph(), process.executable, begun, true);
  EXPECT_FALSE(process.session->launching(process.executable, process.stream));
  EXPECT_EQ(process.header.state, State::searching);
}

// The share of a GPU that a MIG instance is, or that MPS leaves.
TEST(GraphContexts, ASmallerGpuGetsNoPlanAndFewProcessorsFewBlocks) {
  const Step step = test::decode_step(3);
  emulated::processors = 1;
  Captured narrow(step);
  EXPECT_TRUE(narrow.session->instantiating(narrow.program->graph(), 0).matched);
  EXPECT_EQ(narrow.program->graph()->nodes.back()->params.gridDimX, 1u);
  emulated::processors = 132;
  emulated::cache_bytes = 30 << 20;
  Captured small(step);
  EXPECT_FALSE(small.session->instantiating(small.program->graph(), 0).matched);
  EXPECT_EQ(small.header.graphs.refused[static_cast<size_t>(Refusal::little_cache)], 1u);
  EXPECT_EQ(small.header.off, Off::none);
}

TEST(GraphContexts, ALittleMemoryIsLeftToTheProgram) {
  Captured process(test::decode_step(3));
  emulated::free_bytes = 1 << 20;
  EXPECT_FALSE(process.session->instantiating(process.program->graph(), 0).matched);
  EXPECT_EQ(process.header.graphs.refused[static_cast<size_t>(Refusal::no_memory)], 1u);
  emulated::free_bytes = size_t{1} << 30;
  EXPECT_TRUE(process.session->instantiating(process.program->graph(), 0).matched);
}

TEST(GraphContexts, AnOlderGpuBesideOthersIsLeftAlone) {
  Captured process(test::decode_step(3));
  emulated::current_device = 1;
  emulated::too_old = true;
  process.session->context_ready();
  emulated::too_old = false;
  EXPECT_FALSE(process.session->instantiating(process.program->graph(), 0).matched);
  EXPECT_EQ(process.header.graphs.refused[static_cast<size_t>(Refusal::no_module)], 1u);
  emulated::current_device = 0;
  EXPECT_TRUE(process.session->instantiating(process.program->graph(), 0).matched);
  EXPECT_EQ(process.header.off, Off::none);
}

// One template, several executables: in another context, and where it is refused the second time.
TEST(GraphContexts, ATemplateThatIsInstantiatedAgain) {
  Captured process(test::decode_step(3));
  const size_t nodes = process.program->graph()->nodes.size();
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  emulated::current_device = 1;
  process.session->context_ready();
  Instantiated second(*process.session, process.program->graph());
  EXPECT_TRUE(second.begun.matched);
  std::swap(process.executable, second.executable);
  emulated::current_device = 0;
  process.steps(40);  // by the switch that its nodes read
  EXPECT_GT(process.window.fetched_bytes, 0u);
  EXPECT_EQ(process.header.off, Off::none);
  emulated::free_bytes = 0;
  EXPECT_FALSE(process.session->instantiating(process.program->graph(), 0).matched);
  EXPECT_EQ(process.program->graph()->nodes.size(), nodes);
  emulated::free_bytes = size_t{1} << 30;
  EXPECT_FALSE(process.session->instantiating(nullptr, 0).matched);
  process.session->updating(process.executable, nullptr);
  EXPECT_EQ(process.header.off, Off::none);
}

TEST(GraphContexts, AGraphOfAContextThatNobodyPreparedIsLeftAlone) {
  Captured process(test::decode_step(3));
  emulated::current_device = 2;
  EXPECT_FALSE(process.session->instantiating(process.program->graph(), 0).matched);
  EXPECT_EQ(process.header.graphs.refused[static_cast<size_t>(Refusal::no_module)], 1u);
}

}  // namespace
}  // namespace preserve
