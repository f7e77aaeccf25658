// SPDX-License-Identifier: Apache-2.0
#include "replay/gpu/executor.h"

#include <algorithm>
#include <cmath>

#include "common/clock.h"
#include "common/error.h"
#include "common/rounded_up.h"

namespace preserve {
namespace {

constexpr int kWaitRounds = 2;  // the second sees what the waits themselves change
constexpr int kRunsPerRound = 5;
constexpr int kStepsPerRun = 4;

// As much as is fetched and not yet read has to fit; the rest of L2 stays everybody's.
std::optional<int64_t> set_aside(const ReplayArm& arm, const GpuFacts& facts) {
  if (arm.planned_bytes == 0 || gpu_eviction(arm.method.eviction) != GpuEviction::last) {
    return std::nullopt;
  }
  const int64_t wanted = arm.cache_peak_bytes > 0 ? arm.cache_peak_bytes : arm.planned_bytes;
  return std::min(facts.persisting_l2_max_bytes, rounded_up(wanted, kGpuPatternBytes));
}

}  // namespace

GpuExecutor::GpuExecutor(const Ranks& ranks, GpuDevice& device, StepProgram program,
                         const GpuPlan& plan, std::string other_use)
    : RankExecutor(ranks, std::move(program), plan.arms),
      device_(device),
      rules_(plan.rules),
      other_use_(std::move(other_use)) {
  allocate(plan);
  const GpuGraph streamed = streamed_products(this->program(), memory_, plan.rules);
  if (!streamed.nodes.empty()) {
    const int graph = device_.add(streamed);
    streamed_checksum_ = device_.run(graph, 1).checksum;
    device_.drop(graph);
  }
  find_waits(plan);
  for (const ReplayArm& arm : plan.arms) prepare(arm, plan);
}

GpuExecutor::~GpuExecutor() = default;

void GpuExecutor::allocate(const GpuPlan& plan) {
  for (const ProgramTensor& tensor : program().tensors) {
    memory_.tensors.push_back(tensor.bytes > 0
                                  ? device_.allocate(rounded_up(tensor.bytes, kGpuPatternBytes))
                                  : GpuAddress{0});
  }
  memory_.hot = {device_.allocate(plan.hot_bytes), plan.hot_bytes};
  if (plan.useless_bytes > 0) {
    memory_.useless = {device_.allocate(plan.useless_bytes), plan.useless_bytes};
  }
}

void GpuExecutor::find_waits(const GpuPlan& plan) {
  waits_.ops.resize(program().ops.size());
  const ReplayArm baseline{.name = "baseline"};
  for (int round = 0; round < kWaitRounds; ++round) {
    const int graph = device_.add(graph_of(program(), baseline, memory_, plan.rules, waits_));
    ranks().barrier();
    device_.run(graph, 1);  // cold: first touch of instructions and TLB
    std::vector<GpuRun> runs;
    runs.reserve(kRunsPerRound);
    for (int run = 0; run < kRunsPerRound; ++run) runs.push_back(device_.run(graph, kStepsPerRun));
    device_.drop(graph);
    bare_ = preserve::bare_times(program(), plan.rules, runs, waits_);
    launch_ns_ = runs.back().launch_ns;
    waits_ = waits_for(program(), plan.rules, bare_);
  }
}

void GpuExecutor::prepare(const ReplayArm& arm, const GpuPlan& plan) {
  arms_.push_back({.graph = device_.add(graph_of(program(), arm, memory_, plan.rules, waits_)),
                   .kind = arm.kind,
                   .planned_bytes = arm.planned_bytes,
                   .persisting_bytes = set_aside(arm, device_.facts())});
}

ArmSample GpuExecutor::do_run(size_t index, int steps) {
  const Arm& arm = arms_[index];
  // Lines that the arm before asked to keep would otherwise stay through this one.
  device_.set_persisting_l2(arm.persisting_bytes);
  ranks().barrier();
  device_.run(arm.graph, 1);  // what the arm before left in the cache is gone after it
  ranks().barrier();
  const int64_t start_ns = monotonic_ns();
  const GpuRun run = device_.run(arm.graph, steps);
  ArmSample sample{.step_ns = ranks().max(std::llround(run.step_ns)),
                   .probe_ns = ranks().max(device_.probe_clock_ns())};
  look_at_the_device(sample);
  const uint64_t mine =
      run.checksum - (arm.kind == ArmKind::hot ? streamed_checksum_ : uint64_t{0});
  sample.checksum = static_cast<uint64_t>(ranks().sum(static_cast<int64_t>(mine)));
  std::vector<float> op_ns;
  std::vector<OpInterval> intervals;
  for (size_t op = 0; op < program().ops.size(); ++op) {
    const double inside_ns = launches_inside_ns(program().ops[op], rules_, bare_.launch_gap_ns);
    const double dur_ns = std::max(0.0, run.op_ns[op] - inside_ns);
    op_ns.push_back(static_cast<float>(dur_ns));
    const int64_t at_ns = start_ns + std::llround(run.op_start_ns[op] + inside_ns / 2);
    intervals.push_back({at_ns, at_ns + std::llround(dur_ns)});
  }
  remember(index, std::move(op_ns), arm.planned_bytes, std::move(intervals));
  return sample;
}

void GpuExecutor::look_at_the_device(ArmSample& sample) {
  const GpuState state = device_.state();
  if (!state.other_pids.empty() && other_use_.empty()) other_use_ = preserve::other_use(state);
  sample.interrupted = ranks().max(state.other_pids.empty() && other_use_.empty() ? 0 : 1) > 0;
  sample.throttled = ranks().max(state.throttle.empty() ? 0 : 1) > 0;
  if (state.throttle.empty()) return;
  ++throttled_runs_;
  if (throttle_.find(state.throttle) != std::string::npos) return;
  throttle_ += (throttle_.empty() ? "" : ", ") + state.throttle;
}

}  // namespace preserve
