// SPDX-License-Identifier: Apache-2.0
// Runs a StepProgram on this rank's core: real memory traffic per operator, real collectives, and
// in each window whatever the arm fetches there. What the kernels do not explain of an operator's
// recorded duration is a pad: a fixed wait, the same in every arm, found by running the baseline
// first.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "replay/executor.h"
#include "replay/fetch_window.h"
#include "replay/ranks.h"
#include "replay/step_program.h"
#include "replay/tensor_memory.h"

namespace preserve {

struct CpuExecutorOptions {
  std::optional<int> spare_cpu;  // for arms of placement spare
  int64_t link_latency_ns = 0;
  int64_t hot_block_bytes = 0;  // arm hot reads this much again and again
};

struct OpInterval {
  int64_t start_ns = 0, end_ns = 0;
};

// Memory that one rank needs for this.
int64_t executor_memory_bytes(const StepProgram& program, const std::vector<ReplayArm>& arms,
                              const CpuExecutorOptions& options);

class CpuExecutor final : public Executor {
 public:
  // The calling thread is pinned already. Allocates, touches and calibrates: takes some dozen
  // steps.
  CpuExecutor(const Ranks& ranks, StepProgram program, std::vector<ReplayArm> arms,
              const CpuExecutorOptions& options);

  const StepProgram& program() const { return program_; }
  const std::vector<std::string>& names() const { return names_; }
  // Of this rank. Operator times of the n-th run() after construction, mean over its timed steps.
  const std::vector<float>& op_ns(size_t sample) const { return op_ns_[sample]; }
  int64_t fetched_bytes(size_t sample) const { return fetched_bytes_[sample]; }  // per step
  // The last timed step of that arm, on CLOCK_MONOTONIC; empty when the arm never ran.
  const std::vector<OpInterval>& last_step(size_t arm) const { return last_steps_[arm]; }

 private:
  struct BoundOp {  // a ProgramOp with addresses
    int64_t gap_ns = 0, pad_ns = 0;
    std::vector<FetchSlice> weights, reads, hot_weights, hot_reads;
    std::vector<TensorSlice> writes;
    int collective = -1;  // index into collectives_
  };
  struct BoundWindow {
    bool active = false;  // start without blocking, even with nothing to fetch
    std::vector<FetchSlice> slices;
  };

  struct BoundArm {
    ArmKind kind = ArmKind::baseline;
    FetchFunction fetch = nullptr;
    int64_t chunk_bytes = 0;
    bool on_spare_core = false;
    FetchBegin begin = FetchBegin::after_start;
    std::vector<BoundWindow> windows;  // by operator
  };

  const std::vector<std::string>& do_arms() const override { return names_; }
  ArmSample do_run(size_t arm, int steps) override;
  bool do_agree(bool yes) override { return ranks_.from_first(yes ? 1 : 0) != 0; }

  void bind_program();
  void bind_arm(const ReplayArm& arm, int64_t& scratch_at);
  void calibrate_pads();
  int64_t run_step(size_t index);  // returns bytes fetched
  void consume(const BoundOp& op, bool hot);
  int64_t communicate(const BoundOp& op, const BoundArm& arm, const BoundWindow& window);
  WindowFetcher& fetcher_of(const BoundArm& arm);

  const Ranks& ranks_;
  StepProgram program_;
  CpuExecutorOptions options_;
  std::vector<std::string> names_;
  TensorMemory memory_, hot_, scratch_;
  std::vector<int64_t> tensor_at_;  // offset of each tensor in memory_
  std::vector<std::unique_ptr<RankCollective>> collectives_;
  std::vector<BoundOp> ops_;
  std::vector<BoundArm> arms_;
  WindowFetcher own_;                   // on the rank's core
  std::optional<WindowFetcher> spare_;  // on a spare one
  Consumer consumer_;
  uint64_t checksum_ = 0;
  std::vector<OpInterval> current_;  // of the running step
  std::vector<int64_t> kernel_ns_;   // of the running step: without gap and pad
  std::vector<std::vector<OpInterval>> last_steps_;
  std::vector<std::vector<float>> op_ns_;
  std::vector<int64_t> fetched_bytes_;
};

}  // namespace preserve
