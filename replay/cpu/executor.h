// SPDX-License-Identifier: Apache-2.0
// Runs a StepProgram on this rank's core: real memory traffic per operator, real collectives, and
// in each window whatever the arm fetches there. What the kernels do not explain of an operator's
// recorded duration is a pad: a fixed wait, the same in every arm, found by running the baseline
// first.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "replay/cpu/fetch_window.h"
#include "replay/cpu/tensor_memory.h"
#include "replay/ranks/group.h"
#include "replay/step/program.h"
#include "replay/step/rank_executor.h"

namespace preserve {

struct CpuExecutorOptions {
  std::optional<int> spare_cpu;  // for arms of placement spare
  int64_t link_latency_ns = 0;
  WindowVia via = WindowVia::convert;
  int64_t hot_block_bytes = 0;  // arm hot reads this much again and again
  Pages pages = Pages::ordinary;
};

// Memory that one rank needs for this.
int64_t executor_memory_bytes(const StepProgram& program, const std::vector<ReplayArm>& arms,
                              const CpuExecutorOptions& options);

class CpuExecutor final : public RankExecutor {
 public:
  // The calling thread is pinned already. Allocates, touches and calibrates: takes some dozen
  // steps.
  CpuExecutor(const Ranks& ranks, StepProgram program, const std::vector<ReplayArm>& arms,
              const CpuExecutorOptions& options);

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
    bool fetches_in_turns = false;  // of the MPI library's progress engine
    FetchBegin begin = FetchBegin::after_start;
    std::vector<BoundWindow> windows;  // by operator
  };

  ArmSample do_run(size_t arm, int steps) override;

  void bind_program();
  void bind_arm(const ReplayArm& arm, int64_t& scratch_at);
  bool takes_turns(const BoundArm& arm, int32_t ordinal) const;
  void calibrate_pads();
  int64_t run_step(size_t index);  // returns bytes fetched
  void consume(const BoundOp& op, bool hot);
  int64_t communicate(const BoundOp& op, const BoundArm& arm, const BoundWindow& window);
  WindowFetcher& fetcher_of(const BoundArm& arm);

  CpuExecutorOptions options_;
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
};

}  // namespace preserve
