// SPDX-License-Identifier: Apache-2.0
#include "tests/replay/step/simple_schedule.h"

#include <algorithm>
#include <fstream>

#include "common/output_file.h"
#include "db/step/folded_step.h"

namespace preserve::test {
namespace {

// Fetches for the operators from `begin` on, up to the next collective.
void fill_window(const FoldedStep& step, size_t begin, bool next_step, const SimplePlan& spec,
                 PlannedWindow& window) {
  for (size_t i = begin; i < step.ops.size(); ++i) {
    const StepOp& op = step.ops[i];
    if (op.kind == OpKind::collective) return;
    for (const StepAccess& access : op.accesses) {
      const StepTensor& tensor = step.tensors[static_cast<size_t>(access.tensor)];
      const int64_t left = spec.bytes_per_window - window.used_bytes;
      if (tensor.role != TensorRole::weight || left <= 0) continue;
      PlannedPrefetch prefetch;
      prefetch.tensor = tensor.name;
      prefetch.consumer_ordinal = op.ordinal;
      prefetch.consumer = op.name;
      prefetch.offset_bytes = access.offset_bytes;
      prefetch.length_bytes = std::min(left, access.bytes);
      prefetch.next_step = next_step;
      window.used_bytes += prefetch.length_bytes;
      window.prefetches.push_back(std::move(prefetch));
    }
  }
}

}  // namespace

Schedule simple_schedule(const std::filesystem::path& trace, const SimplePlan& spec) {
  const TraceDb db = TraceDb::open(trace);
  const FoldedStep step = fold_step(db);
  Schedule schedule;
  schedule.trace_path = trace.string();
  schedule.trace_sha256 = sha256_of_file(trace);
  schedule.rank = step.rank;
  schedule.ranks = step.world_size;
  schedule.step_ops = static_cast<int64_t>(step.ops.size());
  schedule.device_name = "test device";
  schedule.method.name = spec.method;
  schedule.method.placement = spec.placement;
  schedule.method.chunk_bytes = spec.chunk_bytes;
  schedule.budget_bytes = spec.budget_bytes;
  schedule.link_latency_ns = spec.link_latency_ns;
  schedule.plan.strategy = Strategy::bfs;
  schedule.plan.verdict =
      spec.bytes_per_window > 0 ? PlanVerdict::prefetch : PlanVerdict::do_nothing;
  schedule.plan.baseline_step_ns = static_cast<int64_t>(step.wall_ns);
  schedule.plan.prefetch_step_ns = static_cast<int64_t>(step.wall_ns);
  for (size_t i = 0; i < step.ops.size(); ++i) {
    if (step.ops[i].kind != OpKind::collective) continue;
    PlannedWindow window;
    window.ordinal = step.ops[i].ordinal;
    window.name = step.ops[i].name;
    window.capacity_bytes = spec.bytes_per_window;
    window.binds = "window";
    fill_window(step, i + 1, false, spec, window);
    if (spec.wrap && i + 1 == step.ops.size()) fill_window(step, 0, true, spec, window);
    schedule.plan.windows.push_back(std::move(window));
  }
  schedule.candidates.push_back(schedule.plan);
  return schedule;
}

void write_simple_schedule(const std::filesystem::path& path, const std::filesystem::path& trace,
                           const SimplePlan& spec) {
  std::ofstream(path) << to_json(simple_schedule(trace, spec));
}

}  // namespace preserve::test
