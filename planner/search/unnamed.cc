// SPDX-License-Identifier: Apache-2.0
#include "planner/search/unnamed.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/as_index.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

std::string share(double part, double whole) {
  return fmt::format("{:.1f} %", whole > 0 ? 100 * part / whole : 0);
}

std::string gain(const Schedule& schedule) {
  const auto before_ns = static_cast<double>(schedule.plan.baseline_step_ns);
  const auto best_ns = static_cast<double>(
      std::min(schedule.plan.prefetch_step_ns,
               std::max(schedule.window_limited_step_ns, schedule.cache_limited_step_ns)));
  if (best_ns >= before_ns) {
    return "nothing, even if every byte that the operators read were named";
  }
  return fmt::format(
      "at most {}, from {} to {} per step, if every byte that the operators read "
      "were named",
      share(before_ns - best_ns, before_ns), format_duration(before_ns), format_duration(best_ns));
}

}  // namespace

bool reads_named_memory(const FoldedStep& step) {
  return std::any_of(step.ops.begin(), step.ops.end(), [&](const StepOp& op) {
    return std::any_of(op.accesses.begin(), op.accesses.end(), [&](const StepAccess& access) {
      const TensorRole role = step.tensors[as_index(access.tensor)].role;
      return role == TensorRole::weight || role == TensorRole::kv;
    });
  });
}

FoldedStep as_if_named(const FoldedStep& step, const DeviceModel& device) {
  FoldedStep named = step;
  named.tensors.clear();
  for (StepOp& op : named.ops) {
    op.accesses.clear();
    const auto bytes =
        static_cast<int64_t>(op.dur_ns * device.memory_bandwidth_bytes_per_s / kNsPerS);
    if (op.kind != OpKind::compute || bytes < kBlockBytes) continue;
    StepAccess& read = op.accesses.emplace_back();
    read.tensor = static_cast<int32_t>(named.tensors.size());
    read.bytes = bytes;
    named.tensors.push_back(
        {fmt::format("operand of operator {}", op.ordinal), TensorRole::weight, bytes, false});
  }
  return named;
}

std::string answer_without_names(const FoldedStep& step, const DeviceModel& device,
                                 const PlanOptions& options) {
  int64_t collectives = 0, windows = 0, usable_ns = 0, capacity_bytes = 0;
  double collective_ns = 0;
  for (const StepOp& op : step.ops) {
    if (op.kind != OpKind::collective) continue;
    ++collectives;
    collective_ns += op.dur_ns + static_cast<double>(options.problem.link_latency_ns);
  }
  const FoldedStep named = as_if_named(step, device);
  std::string bytes = "unknown: no operator computes long enough to read a block";
  std::string bound = "nothing";
  if (reads_named_memory(named)) {
    const Planned planned = make_schedule(named, device, options);
    const PlanProblem& problem = planned.solved->problem;
    for (const Window& window : problem.windows) {
      if (window.capacity_bytes <= 0) continue;
      ++windows;
      usable_ns += window.usable_ns;
      capacity_bytes += std::min(window.capacity_bytes, problem.budget_bytes);
    }
    bytes = fmt::format(
        "up to {} per step could be fetched in {} ({} in which it can), at most "
        "{} of them cached at a time",
        format_size(capacity_bytes), count_of(windows, "window"), format_duration(usable_ns),
        format_size(problem.budget_bytes));
    bound = gain(planned.schedule);
  }
  const double step_ns = step.wall_ns + static_cast<double>(collectives) *
                                            static_cast<double>(options.problem.link_latency_ns);
  return fmt::format(
      "no operator reads a named tensor, so nothing can be planned yet and no schedule was "
      "written; "
      "what the recording of rank {} says:\n"
      "  collectives  {} per step, together {} of {} ({}){}\n"
      "  bytes        {}\n"
      "  gain         {}\n"
      "  what to do   name the weights and the KV-cache, and the ranges that read them, as in "
      "docs/annotating.md; or record the program as it is with preserve-profile --touch (MPI) or "
      "--torch (PyTorch)\n",
      step.rank, collectives, format_duration(collective_ns), format_duration(step_ns),
      share(collective_ns, step_ns),
      step.source == "detected" ? "; the step is guessed from their period" : "", bytes, bound);
}

}  // namespace preserve
