// SPDX-License-Identifier: Apache-2.0
// An executor that rebuilds a StepProgram on this rank's device, and what it records of every run
// in addition to the step's time. Everything after the measurement needs only this, whatever the
// device.
#pragma once

#include <string>
#include <vector>

#include "replay/ranks/group.h"
#include "replay/step/executor.h"
#include "replay/step/program.h"

namespace preserve {

struct OpInterval {
  int64_t start_ns = 0, end_ns = 0;
};

class RankExecutor : public Executor {
 public:
  const StepProgram& program() const { return program_; }
  // Of this rank. Operator times of the n-th run() after construction, mean over its timed steps.
  const std::vector<float>& op_ns(size_t sample) const { return op_ns_[sample]; }
  int64_t fetched_bytes(size_t sample) const { return fetched_bytes_[sample]; }  // per step
  // The last timed step of that arm, on CLOCK_MONOTONIC; empty when the arm never ran.
  const std::vector<OpInterval>& last_step(size_t arm) const { return last_steps_[arm]; }

 protected:
  RankExecutor(const Ranks& ranks, StepProgram program, const std::vector<ReplayArm>& arms);

  const Ranks& ranks() const { return ranks_; }
  // do_run() ends with this.
  void remember(size_t arm, std::vector<float> op_ns, int64_t fetched_bytes,
                std::vector<OpInterval> last_step);

 private:
  const std::vector<std::string>& do_arms() const final { return names_; }
  bool do_agree(bool yes) final { return ranks_.from_first(yes ? 1 : 0) != 0; }

  const Ranks& ranks_;
  StepProgram program_;
  std::vector<std::string> names_;
  std::vector<std::vector<OpInterval>> last_steps_;
  std::vector<std::vector<float>> op_ns_;
  std::vector<int64_t> fetched_bytes_;
};

}  // namespace preserve
