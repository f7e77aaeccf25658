// SPDX-License-Identifier: Apache-2.0
// What runs the arms of a replay. measure() drives an executor and never sees what it is made of;
// all ranks call it in step, and every value it returns is the same on all of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/no_copy.h"

namespace preserve {

struct ArmSample {
  int64_t step_ns = 0;       // mean of the timed steps, slowest rank
  bool interrupted = false;  // some rank was taken off its core, or shared its GPU
  int64_t probe_ns = 0;      // a fixed piece of arithmetic, slowest rank: shows a throttled clock
  uint64_t checksum = 0;     // of what the consumers read per step
  bool throttled = false;    // some rank's device reported that its clocks are held down
};

class Executor : NoCopy {
 public:
  virtual ~Executor() = default;

  // Names, baseline first.
  const std::vector<std::string>& arms() const { return do_arms(); }
  // One unmeasured step, then `steps` timed ones of that arm. internal_error when the arm consumed
  // other bytes than the arms before: then it did other work, and its time means nothing.
  ArmSample run(size_t arm, int steps);
  // Rank 0's answer, on every rank: clocks differ, decisions must not.
  bool agree(bool yes) { return do_agree(yes); }

 private:
  virtual const std::vector<std::string>& do_arms() const = 0;
  virtual ArmSample do_run(size_t arm, int steps) = 0;
  virtual bool do_agree(bool yes) = 0;

  std::optional<uint64_t> checksum_;
};

}  // namespace preserve
