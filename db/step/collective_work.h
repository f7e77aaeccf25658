// SPDX-License-Identifier: Apache-2.0
// On processors a collective is work: the core that calls it copies, adds and looks for the others.
// Where all ranks share a host, the rank that comes last waits for nobody and for no network, so the
// time that it takes is such work, and only what a rank takes longer is waiting.
#pragma once

#include <vector>

#include "db/step/folded_step.h"

namespace preserve {

// The least time that any rank takes for each blocking collective of the step that all run.
class CollectiveWork {
 public:
  explicit CollectiveWork(const FoldedStep& step);
  void add(const FoldedStep& other_rank);
  // Sets work_ns of the blocking collectives; nothing unless `step.world_size` ranks were added,
  // and all of them call the same functions on the same communicators.
  void set(FoldedStep& step) const;

 private:
  std::vector<StepCollective> calls_;
  std::vector<double> least_ns_;
  int64_t ranks_ = 1;
  bool same_calls_ = true;
};

// Whether the processes with steps ran on one host.
bool all_ranks_on_one_host(const TraceDb& db);

}  // namespace preserve
