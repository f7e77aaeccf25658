// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/step_waits.h"

#include <algorithm>
#include <cmath>

#include "common/stats.h"

namespace preserve {
namespace {

int64_t whole_ns(double dur_ns) {
  return std::max<int64_t>(0, std::llround(dur_ns));
}

// A wait that needs a node of its own costs a launch: not worth it below this many of them.
constexpr double kLeastNodes = 2;

double own_node(double dur_ns, double launch_gap_ns) {
  return dur_ns >= kLeastNodes * launch_gap_ns ? dur_ns - launch_gap_ns : 0;
}

// Assumed where no two nodes follow each other that tell it.
constexpr double kUsualLaunchNs = 1000;

// From the end of the last operator to the start of the first one of the next execution.
double boundary_ns(const GpuRun& run) {
  const size_t last = run.op_ns.size() - 1;
  return run.step_ns - (run.op_start_ns[last] + run.op_ns[last]) + run.op_start_ns[0];
}

double gap_before(const GpuRun& run, size_t op) {
  if (op == 0) return boundary_ns(run);
  return run.op_start_ns[op] - run.op_start_ns[op - 1] - run.op_ns[op - 1];
}

double median_of(const std::vector<GpuRun>& runs, double (*value)(const GpuRun&, size_t),
                 size_t op) {
  std::vector<double> values;
  values.reserve(runs.size());
  for (const GpuRun& run : runs) values.push_back(value(run, op));
  return median(values);
}

}  // namespace

double launches_inside_ns(const ProgramOp& op, const GraphRules& rules, double launch_gap_ns) {
  return can_wait(op, rules) ? 0 : 2 * launch_gap_ns;
}

BareTimes bare_times(const StepProgram& program, const GraphRules& rules,
                     const std::vector<GpuRun>& runs, const StepWaits& waits) {
  BareTimes bare;
  const size_t ops = program.ops.size();
  for (size_t i = 0; i < ops; ++i) {
    bare.gap_ns.push_back(median_of(runs, gap_before, i) -
                          static_cast<double>(waits.ops[i].before_ns));
    const auto length = [](const GpuRun& run, size_t op) { return run.op_ns[op]; };
    bare.op_ns.push_back(median_of(runs, length, i) - static_cast<double>(waits.ops[i].after_ns));
  }
  std::vector<double> launches;
  for (size_t i = 1; i < ops; ++i) {
    const bool both_tell = can_wait(program.ops[i], rules) && can_wait(program.ops[i - 1], rules);
    if (both_tell) launches.push_back(bare.gap_ns[i]);
  }
  bare.launch_gap_ns = std::max(0.0, launches.empty() ? kUsualLaunchNs : median(launches));
  for (size_t i = 0; i < ops; ++i) {
    if (can_wait(program.ops[i], rules)) continue;
    // The launches inside its time belong to the gaps, unless a waiting node has one of its own.
    bare.op_ns[i] = std::max(
        0.0, bare.op_ns[i] - launches_inside_ns(program.ops[i], rules, bare.launch_gap_ns));
    if (waits.ops[i].before_ns == 0) bare.gap_ns[i] += bare.launch_gap_ns;
    if (waits.ops[i].after_ns == 0) bare.gap_ns[(i + 1) % ops] += bare.launch_gap_ns;
  }
  if (waits.tail_ns > 0) {
    bare.gap_ns[0] -= static_cast<double>(waits.tail_ns) + bare.launch_gap_ns;
  }
  return bare;
}

StepWaits waits_for(const StepProgram& program, const GraphRules& rules, const BareTimes& bare) {
  StepWaits waits;
  waits.ops.resize(program.ops.size());
  double debt_ns = 0;  // by which launches were slower than recorded, not yet made good
  const double between_steps_ns =
      static_cast<double>(program.tail_ns + program.ops.front().gap_ns) - bare.gap_ns[0];
  if (program.tail_ns > 0) {
    waits.tail_ns = whole_ns(own_node(between_steps_ns, bare.launch_gap_ns));
  }
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const ProgramOp& op = program.ops[i];
    OpWaits& mine = waits.ops[i];
    const bool inside = can_wait(op, rules);
    const auto held = [&](double dur_ns) {
      return whole_ns(inside ? dur_ns : own_node(dur_ns, bare.launch_gap_ns));
    };
    double gap_ns = i == 0 ? between_steps_ns : static_cast<double>(op.gap_ns) - bare.gap_ns[i];
    if (i == 0 && waits.tail_ns > 0) gap_ns = 0;
    if (gap_ns > 0) {
      mine.before_ns = held(gap_ns);
    } else {
      debt_ns -= gap_ns;
    }
    if (communicates(op)) continue;
    const double pad_ns = std::max(0.0, static_cast<double>(op.dur_ns) - bare.op_ns[i]);
    const double paid_ns = std::min(pad_ns, debt_ns);
    debt_ns -= paid_ns;
    mine.after_ns = held(pad_ns - paid_ns);
  }
  return waits;
}

}  // namespace preserve
