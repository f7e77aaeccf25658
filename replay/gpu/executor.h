// SPDX-License-Identifier: Apache-2.0
// Runs a StepProgram on a GPU: each arm is one graph, prepared once and executed back to back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "replay/gpu/plan.h"
#include "replay/gpu/step_waits.h"
#include "replay/step/rank_executor.h"

namespace preserve {

class GpuExecutor final : public RankExecutor {
 public:
  // Allocates, finds the waits by running the baseline, prepares every arm. Where collectives are
  // real the device has joined the other ranks. `other_use`: who else used the GPU before; while
  // there is one, every sample counts as interrupted.
  GpuExecutor(const Ranks& ranks, GpuDevice& device, StepProgram program, const GpuPlan& plan,
              std::string other_use);
  ~GpuExecutor() override;

  const StepWaits& waits() const { return waits_; }
  const BareTimes& bare_times() const { return bare_; }
  double launch_ns() const { return launch_ns_; }  // of one baseline step, on the host
  int64_t throttled_runs() const { return throttled_runs_; }
  const std::string& throttle() const { return throttle_; }  // reasons seen, comma-separated
  const std::string& other_use() const { return other_use_; }

 private:
  struct Arm {
    int graph = 0;
    ArmKind kind = ArmKind::baseline;
    int64_t planned_bytes = 0;
    std::optional<int64_t> persisting_bytes;  // set-aside; nothing: as it was found
  };

  ArmSample do_run(size_t arm, int steps) override;

  void allocate(const GpuPlan& plan);
  void find_waits(const GpuPlan& plan);
  void prepare(const ReplayArm& arm, const GpuPlan& plan);
  void look_at_the_device(ArmSample& sample);

  GpuDevice& device_;
  GraphRules rules_;
  GraphMemory memory_;
  StepWaits waits_;
  BareTimes bare_;
  std::vector<Arm> arms_;
  uint64_t streamed_checksum_ = 0;  // of products that only arm hot streams
  double launch_ns_ = 0;
  int64_t throttled_runs_ = 0;
  std::string throttle_, other_use_;
};

}  // namespace preserve
