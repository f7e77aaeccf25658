// SPDX-License-Identifier: Apache-2.0
// Several threads of a program under one session. An executable of its own: the fibers by which
// prefetch kernels are emulated are too much for ThreadSanitizer.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <thread>

#include "tests/apply/library/cuda/process.h"

namespace preserve {
namespace {

using namespace apply;
using namespace test;

// As programs do that capture and launch on a thread for each stream.
TEST(GraphThreads, CallsComeFromSeveralThreadsAtOnce) {
  constexpr int kThreads = 4, kRounds = 3, kLaunches = 12;
  const Step step = test::decode_step(2);
  test::runs_prefetches = false;
  Process process(step, Mode::compare);
  struct Of {
    std::unique_ptr<Program> first, second;
    Stream stream;
  };
  std::vector<Of> of(kThreads);
  std::vector<uint64_t> expected;
  for (Of& each : of) {
    each.first = std::make_unique<Program>(step, 512);
    each.second = std::make_unique<Program>(step, 512);
    expected = each.first->result();
  }
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (Of& each : of) {
    threads.emplace_back([&] {
      GraphSession& session = *process.session;
      for (int round = 0; round < kRounds; ++round) {
        session.context_ready();
        Instantiated graph(session, each.first->graph());
        const auto launches = [&] {
          for (int i = 0; i < kLaunches; ++i) {
            test::launch(session, graph.executable, each.stream);
          }
          emulated::drain();
        };
        launches();
        graph.update(each.second->graph());
        launches();
        session.freed(16, 16);
        session.destroyed(emulated::context_of(7));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(process.header.off, Off::none);
  EXPECT_EQ(process.header.graphs.edited, unsigned{kThreads * kRounds});
  EXPECT_GT(process.header.locks, 0u);
  for (Of& each : of) {
    EXPECT_EQ(each.first->left(), expected);
    EXPECT_EQ(each.second->left(), expected);
    process.session->destroyed(each.first->graph());
    process.session->destroyed(each.second->graph());
  }
}

// A driver in which each call of a thread that `waits` ends once another thread has done `others`:
// what the GPUs wait for, when their queues are full and a collective runs on them.
thread_local bool waits = false;
std::function<void()> others;
int waited = 0;

void wait_for_others() {
  if (!waits) return;
  ++waited;
  const std::future<void> done = std::async(std::launch::async, others);
  if (done.wait_for(std::chrono::minutes(1)) != std::future_status::ready) {
    std::fputs("the other thread waits for a call of the driver\n", stderr);
    std::abort();
  }
}
void waiting(const std::function<void()>& call) {
  waits = true;
  call();
  waits = false;
}
template <auto Function>
struct Waiting;
template <typename... Of, CUresult (*Function)(Of...)>
struct Waiting<Function> {
  static CUresult call(Of... of) {
    wait_for_others();
    return Function(of...);
  }
};
Driver waiting_driver() {
  Driver driver = test::emulated_driver();
#define PRESERVE_WAITING(member, function, symbol) driver.member = Waiting<&::function>::call;
  PRESERVE_DRIVER_FUNCTIONS(PRESERVE_WAITING)
#undef PRESERVE_WAITING
  return driver;
}

TEST(GraphThreads, NoCallOfTheDriverKeepsAnotherThreadWaiting) {
  const Step step = test::decode_step(1);
  test::runs_prefetches = false;
  Process process(step, Mode::compare, waiting_driver());
  GraphSession& session = *process.session;
  const Stream beside;
  int device = 0;
  // All that a program does with graphs, in this context and in another.
  others = [&] {
    emulated::current_device = device;
    session.context_ready();
    Program first(step, 512), second(step, 512);
    const std::vector<uint64_t> expected = first.result();
    Instantiated other(session, first.graph());
    other.launch(beside);
    EXPECT_EQ(first.left(), expected);
    EXPECT_TRUE(other.update(second.graph()));
    session.copying(first.graph());
    session.freed(16, 16);
    other.launch(beside);
    EXPECT_EQ(second.left(), expected);
    session.destroyed(first.node(0));
    session.destroyed(first.graph());
    session.destroyed(second.graph());
    session.destroyed(emulated::context_of(7));
  };
  for (device = 0; device < 2; ++device) {
    waited = 0;
    Program first(step, 512), second(step, 512);
    const std::vector<uint64_t> expected = first.result();
    emulated::current_device = 2 + device;
    waiting([&] { session.context_ready(); });
    emulated::current_device = 0;
    std::unique_ptr<Instantiated> graph;
    waiting([&] { graph = std::make_unique<Instantiated>(session, first.graph()); });
    waiting([&] {
      for (int i = 0; i < 14; ++i) graph->launch(process.stream);
    });
    EXPECT_EQ(first.left(), expected);
    waiting([&] { EXPECT_TRUE(graph->update(second.graph())); });
    waiting([&] { session.copying(second.graph()); });
    EXPECT_EQ(process.header.off, Off::none);
    EXPECT_GT(process.header.samples, 0u);
    EXPECT_GT(waited, 100);
    if (device == 1) session.turn_off(Off::slow);
    waiting([&] {
      for (int i = 0; i < 3; ++i) graph->launch(process.stream);
      EXPECT_TRUE(graph->update(second.graph()));
      session.destroyed(first.graph());
      session.destroyed(second.graph());
    });
    EXPECT_EQ(second.left(), expected);
  }
}

// The plan goes off while nodes are added: the end of that instantiation must still be told of.
TEST(GraphThreads, AnInstantiationIsFollowedToItsEnd) {
  Driver driver = test::emulated_driver();
  driver.memory_info = Waiting<&cuMemGetInfo>::call;
  Captured process(test::decode_step(1), Mode::compare, driver);
  others = [&] {
    process.session->turn_off(Off::slow);
    EXPECT_EQ(process.session->needs(), GraphSession::Needs::changes);
  };
  waits = true;
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  waits = false;
  process.give_up_template();
  process.destroy();
  EXPECT_EQ(process.session->needs(), GraphSession::Needs::nothing);
}

std::atomic<int> writes_beside{0}, writes_measured{0}, events_created{0};
CUstream measured_stream = nullptr;
CUresult count_write(CUstream stream, CUdeviceptr to, cuuint32_t value, unsigned flags) {
  ++(stream == measured_stream ? writes_measured : writes_beside);
  return cuStreamWriteValue32(stream, to, value, flags);
}

// A second executable graph of the context is launched while the nodes of the measured one are
// disabled: the switch is written in order with the measured launch.
TEST(GraphThreads, TheMeasuredLaunchWritesItsOwnArm) {
  const Step step = test::decode_step(1);
  test::runs_prefetches = false;
  Driver driver = test::emulated_driver();
  driver.set_enabled = Waiting<&cuGraphNodeSetEnabled>::call;
  driver.write_value = count_write;
  Running process(step, Mode::compare, driver);
  Program second(step, 512);
  Instantiated other(*process.session, second.graph());
  const Stream beside;
  others = [&] { other.launch(beside); };
  measured_stream = process.stream;
  process.steps(8);
  writes_beside = writes_measured = 0;
  waited = 0;
  waiting([&] { process.steps(40); });
  EXPECT_GT(waited, 10);
  EXPECT_GT(writes_measured, 10);
  EXPECT_EQ(writes_beside, 0);
  EXPECT_EQ(process.header.off, Off::none);
  process.session->destroyed(second.graph());
}

// A template is instantiated again while another thread launches what was made of it before, in
// every arm: no launch waits, and an update finds the nodes enabled.
TEST(GraphThreads, ALaunchDoesNotWaitForItsTemplate) {
  const Step step = test::decode_step(1);
  test::runs_prefetches = false;
  Driver driver = test::emulated_driver();
  driver.set_kernel_params = Waiting<&cuGraphKernelNodeSetParams>::call;
  Captured process(step, Mode::compare, driver);
  const std::vector<uint64_t> expected = process.program->result();
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  while (process.disabled() == 0) process.launch();
  others = [&] { process.steps(20); };
  waited = 0;
  waiting(
      [&] { EXPECT_TRUE(process.session->instantiating(process.program->graph(), 0).matched); });
  EXPECT_EQ(waited, 1);
  EXPECT_GT(process.header.graphs.unpaired, 0u);
  const uint64_t samples = process.header.samples;
  process.steps(20);
  EXPECT_GT(process.header.samples, samples);
  while (process.disabled() == 0) process.launch();
  EXPECT_EQ(process.update(), CUDA_SUCCESS);
  EXPECT_EQ(process.disabled(), 0u);
  process.program->left();
  EXPECT_EQ(process.result(), expected);
  EXPECT_EQ(process.header.off, Off::none);
}

// Two launches end the fetches at once: one event, which counts once it was recorded.
TEST(GraphThreads, OneThreadRecordsThatFetchesHaveEnded) {
  const Step step = test::decode_step(1);
  Driver driver = test::emulated_driver();
  driver.create_event = [](CUevent* event, unsigned flags) {
    ++events_created;
    wait_for_others();
    return cuEventCreate(event, flags);
  };
  test::runs_prefetches = false;
  Running process(step, Mode::compare, driver);
  Program second(step, 512);
  Instantiated other(*process.session, second.graph());
  const Stream beside;
  process.steps(30);
  process.session->turn_off(Off::slow);
  others = [&] {
    for (int i = 0; i < 2; ++i) other.launch(beside);
    EXPECT_EQ(process.session->needs(), GraphSession::Needs::all);
  };
  events_created = 0;
  waiting([&] { process.launch(); });
  EXPECT_EQ(events_created, 1);
  process.launch();
  EXPECT_EQ(process.session->needs(), GraphSession::Needs::changes);
  process.session->destroyed(second.graph());
}

// The module of the context is still being loaded when another thread instantiates there.
TEST(GraphThreads, AnInstantiationWaitsForItsContext) {
  static std::future<bool> matched;
  Driver driver = test::emulated_driver();
  driver.load_module = [](CUmodule* module, const void* image) {
    if (others)
      matched = std::async(std::launch::async, [] {
        others();
        return true;
      });
    return cuModuleLoadData(module, image);
  };
  others = nullptr;
  const Step step = test::decode_step(1);
  Process process(step, Mode::compare, driver);
  Program program(step, 512);
  others = [&] {
    emulated::current_device = 1;
    EXPECT_TRUE(process.session->instantiating(program.graph(), 0).matched);
  };
  emulated::current_device = 1;
  process.session->context_ready();
  emulated::current_device = 0;
  EXPECT_TRUE(matched.get());
  process.session->destroyed(program.graph());
}

}  // namespace
}  // namespace preserve
