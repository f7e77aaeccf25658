// SPDX-License-Identifier: Apache-2.0
#include "db/step/collective_work.h"

#include <algorithm>

namespace preserve {
namespace {

bool is_blocking_collective(const StepOp& op) {
  return op.kind == OpKind::collective && op.collective && op.collective->blocking;
}

}  // namespace

std::vector<double> collective_times_ns(const FoldedStep& step) {
  std::vector<double> times_ns;
  for (const StepOp& op : step.ops) {
    if (is_blocking_collective(op)) times_ns.push_back(op.dur_ns);
  }
  return times_ns;
}

void set_collective_work(FoldedStep& step, std::span<const double> least_ns) {
  size_t next = 0;
  for (StepOp& op : step.ops) {
    if (!is_blocking_collective(op)) continue;
    op.work_ns = std::min(op.dur_ns, least_ns[next++]);
  }
}

bool all_ranks_on_one_host(const TraceDb& db, int64_t ranks) {
  Query found = db.query(
      "SELECT COUNT(DISTINCT host), COUNT(DISTINCT rank) FROM process "
      "WHERE id IN (SELECT process_id FROM step)");
  return found.next() && found.integer(0) == 1 && found.integer(1) == ranks;
}

}  // namespace preserve
