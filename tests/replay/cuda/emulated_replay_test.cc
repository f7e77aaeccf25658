// SPDX-License-Identifier: Apache-2.0
// The executor on the CUDA device, over the emulated CUDA runtime: every arm's graph is one that
// the device can build and run, and all of them read the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "replay/gpu/executor.h"
#include "replay/gpu/replay.h"
#include "tests/replay/step/small_program.h"

namespace preserve {
namespace {

#ifndef PRESERVE_FAKE_CUBLASLT  // built without its headers: there is none
#define PRESERVE_FAKE_CUBLASLT "/absent/libcublasLt.so"
#endif

class EmulatedReplay : public testing::Test {
 protected:
  EmulatedReplay() {
    ::setenv("PRESERVE_CUBLASLT", PRESERVE_FAKE_CUBLASLT, 1);
    spec_.weight_bytes = 32 << 10;
    spec_.kv_bytes = 8 << 10;
    spec_.message_bytes = 4096;
    fits_.name = "fitted";
    fits_.collectives = {{"allreduce", "nccl", 2, 500, 2e9, 0, 256, 1 << 20}};
    job_.program = test::small_program(spec_);
    job_.schedule.ranks = 2;
  }

  // Runs every arm and returns their names.
  std::vector<std::string> run(const IssueMethod& method, std::vector<GpuElement> multiplies = {}) {
    job_.rank_program = job_.program;
    job_.arms = test::small_arms(job_.program, 20'000, method);
    const std::unique_ptr<GpuDevice> gpu = open_cuda_device(0);
    const GpuPlan plan = plan_for_gpu(job_, {}, gpu->facts(), std::move(multiplies), false, &fits_);
    const LoneRank ranks;
    GpuExecutor executor(ranks, *gpu, job_.rank_program, plan, "");
    for (size_t arm = 0; arm < executor.arms().size(); ++arm) {
      EXPECT_GT(executor.run(arm, 2).step_ns, 0) << executor.arms()[arm];
      EXPECT_EQ(executor.last_step(arm).size(), job_.program.ops.size());
    }
    return executor.arms();
  }

  test::SmallProgram spec_;
  DeviceModel fits_;
  ReplayJob job_;
};

// A method and an issue; their combinations share no code. A test each: emulation takes its time on
// a busy machine.
using Way = std::pair<std::string, std::string>;
struct EmulatedArms : EmulatedReplay, testing::WithParamInterface<Way> {};

TEST_P(EmulatedArms, AreBuiltAndReadTheSame) {
  const auto& [method, issue] = GetParam();
  EXPECT_THAT(run({method, "spare", 0, 4, "normal", issue}),
              testing::ElementsAre("baseline", "prefetch", "null", "useless", "hot", "overlap"));
}

INSTANTIATE_TEST_SUITE_P(Ways, EmulatedArms,
                         testing::Values(Way{"bulk_l2", "before"}, Way{"prefetch_l2", "after"},
                                         Way{"load", "before"}));

TEST_F(EmulatedReplay, TheSetAsideOfTheDeviceIsEnough) {
  EXPECT_EQ(run({"bulk_l2", "spare", 4096, 4, "last", "before"}).size(), 6U);
}

TEST_F(EmulatedReplay, ProductsTakeTheirPlaceInTheChain) {
  for (ProgramOp& op : job_.program.ops) {
    if (!op.weights.empty()) op.gemm = StepGemm{4, 64, 256, "fp16"};
  }
  if (!open_cuda_device(0)->can_multiply(GpuElement::fp16)) GTEST_SKIP() << "no cuBLASLt headers";
  EXPECT_EQ(run({"bulk_l2", "spare", 4096, 4, "normal", "before"}, {GpuElement::fp16}).size(), 6U);
}

}  // namespace
}  // namespace preserve
