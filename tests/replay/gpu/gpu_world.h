// SPDX-License-Identifier: Apache-2.0
// All of preserve-replay but its main(), on simulated GPUs.
#pragma once

#include <gtest/gtest.h>

#include "common/error.h"
#include "replay/replay_command.h"
#include "tests/support/fake_gpu.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

class GpuWorld : public testing::Test {
 protected:
  GpuWorld() {
    properties_.block_bytes = 32 << 10;  // fewer events
    properties_.effective_l2_bytes = 2 << 20;
    world_.count_gpus = [&] { return gpus_; };
    world_.open_gpu = [&](int ordinal) -> std::unique_ptr<GpuDevice> {
      if (ordinal >= gpus_) throw input_error("no CUDA device {}", ordinal);
      return std::make_unique<FakeGpu>(properties_);
    };
    world_.run_ranks = [&](const RankLaunch& launch) {
      launched_ranks_ = launch.ranks;
      if (launch.ranks > 1) return 7;  // nobody to run them here
      ReplayArguments worker = arguments_;
      worker.worker = launch.arguments.at(1);
      return run_replay(console_, worker, world_);
    };
    arguments_.request.trace = trace_.string();
    arguments_.request.schedule = schedule_.string();
    arguments_.output = replay_.string();
    arguments_.device = parse_device("cuda:0");
    arguments_.force = true;
    console_.configure(true, 0, Console::Color::never);
  }

  TemporaryDirectory directory_;
  const std::filesystem::path trace_ = directory_ / "trace.db",
                              schedule_ = directory_ / "schedule.json",
                              replay_ = directory_ / "replay.db";
  FakeGpuProperties properties_;
  int gpus_ = 1, launched_ranks_ = 0;
  ReplayArguments arguments_;
  ReplayWorld world_;
  Console console_;
};

}  // namespace preserve::test
