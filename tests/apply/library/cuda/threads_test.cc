// SPDX-License-Identifier: Apache-2.0
// Several threads of a program under one session. An executable of its own: the fibers by which
// prefetch kernels are emulated are too much for ThreadSanitizer.
#include <gtest/gtest.h>

#include <thread>

#include "tests/apply/library/cuda/process.h"

namespace preserve {
namespace {

using namespace apply;
using test::Process;
using test::Program;
using test::Step;

// As programs do that capture and launch on a thread for each stream.
TEST(GraphThreads, CallsComeFromSeveralThreadsAtOnce) {
  constexpr int kThreads = 4, kRounds = 3, kLaunches = 12;
  const Step step = test::decode_step(2);
  test::runs_prefetches = false;
  Process process(step, Mode::compare);
  struct Of {
    std::unique_ptr<Program> first, second;
    CUstream stream = nullptr;
  };
  std::vector<Of> of(kThreads);
  std::vector<uint64_t> expected;
  for (Of& each : of) {
    each.first = std::make_unique<Program>(step, 512);
    each.second = std::make_unique<Program>(step, 512);
    cudaStreamCreateWithFlags(&each.stream, cudaStreamNonBlocking);
    expected = each.first->result();
  }
  std::vector<std::thread> threads;
  for (Of& each : of) {
    threads.emplace_back([&] {
      GraphSession& session = *process.session;
      for (int round = 0; round < kRounds; ++round) {
        session.context_ready();
        CUgraphExec executable = nullptr;
        const auto begun = session.instantiating(each.first->graph(), 0);
        cuGraphInstantiateWithFlags(&executable, each.first->graph(), begun.flags);
        session.instantiated(each.first->graph(), executable, begun, true);
        const auto launches = [&] {
          for (int i = 0; i < kLaunches; ++i) {
            const bool measured = session.launching(executable, each.stream);
            cuGraphLaunch(executable, each.stream);
            if (measured) session.launched(executable, each.stream, true);
          }
          emulated::drain();
        };
        launches();
        session.updating(executable, each.second->graph());
        CUgraphExecUpdateResultInfo info{};
        const CUresult result = cuGraphExecUpdate(executable, each.second->graph(), &info);
        session.updated(executable, result == CUDA_SUCCESS);
        launches();
        session.freed(16, 16);
        session.destroyed(emulated::context_of(7));
        session.destroyed(executable);
        cuGraphExecDestroy(executable);
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
    cudaStreamDestroy(each.stream);
  }
}

}  // namespace
}  // namespace preserve
