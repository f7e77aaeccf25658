// SPDX-License-Identifier: Apache-2.0
#include "db/step/collective_work.h"

#include <algorithm>

namespace preserve {
namespace {

bool is_blocking_collective(const StepOp& op) {
  return op.kind == OpKind::collective && op.collective && op.collective->blocking;
}

}  // namespace

CollectiveWork::CollectiveWork(const FoldedStep& step) {
  for (const StepOp& op : step.ops) {
    if (!is_blocking_collective(op)) continue;
    calls_.push_back(*op.collective);
    least_ns_.push_back(op.dur_ns);
  }
}

void CollectiveWork::add(const FoldedStep& other_rank) {
  const CollectiveWork other(other_rank);
  ++ranks_;
  same_calls_ = same_calls_ && std::ranges::equal(calls_, other.calls_, [](auto& a, auto& b) {
                  return a.function == b.function && a.communicator == b.communicator;
                });
  if (!same_calls_) return;
  std::ranges::transform(least_ns_, other.least_ns_, least_ns_.begin(), std::ranges::min);
}

void CollectiveWork::set(FoldedStep& step) const {
  if (!same_calls_ || ranks_ != step.world_size) return;
  size_t next = 0;
  for (StepOp& op : step.ops) {
    if (is_blocking_collective(op)) op.work_ns = least_ns_[next++];
  }
}

bool all_ranks_on_one_host(const TraceDb& db) {
  return db.query_integer(
             "SELECT COUNT(DISTINCT host) FROM process WHERE id IN (SELECT process_id FROM "
             "step)") == 1;
}

}  // namespace preserve
