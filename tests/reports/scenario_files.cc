// SPDX-License-Identifier: Apache-2.0
#include "tests/reports/scenario_files.h"

#include <cmath>
#include <cstdlib>

#include "common/output_file.h"
#include "db/replay_result.h"
#include "db/step/folded_step.h"
#include "replay/measure/measure.h"
#include "replay/measure/replay_db.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {
namespace {

constexpr int64_t kMiB = 1 << 20;

// Fetches up to 1 MiB of what the first consumer after the window reads.
PlannedWindow plan_window(const FoldedStep& step, size_t window, int64_t link_latency_ns) {
  const StepOp& op = step.ops[window];
  PlannedWindow planned;
  planned.ordinal = op.ordinal;
  planned.name = op.name;
  planned.usable_ns = std::llround(op.dur_ns) + link_latency_ns;
  planned.capacity_bytes = planned.usable_ns * 20;  // 20 GB/s
  planned.binds = "candidates";
  for (size_t i = 1; i < step.ops.size(); ++i) {
    const StepOp& consumer = step.ops[(window + i) % step.ops.size()];
    if (consumer.accesses.empty()) continue;
    PlannedPrefetch prefetch;
    const StepTensor& tensor = step.tensors[static_cast<size_t>(consumer.accesses[0].tensor)];
    prefetch.tensor = tensor.name;
    prefetch.consumer = consumer.name;
    prefetch.consumer_ordinal = consumer.ordinal;
    prefetch.next_step = consumer.ordinal <= op.ordinal;
    prefetch.length_bytes = std::min({kMiB, tensor.bytes, planned.capacity_bytes});
    prefetch.predicted_saved_ns =
        static_cast<double>(prefetch.length_bytes) / 20;  // 20 GB/s to hot
    planned.used_bytes = prefetch.length_bytes;
    if (planned.capacity_bytes < tensor.bytes) planned.binds = "window";
    planned.prefetches.push_back(std::move(prefetch));
    break;
  }
  return planned;
}

// One arm whose steps last about `step_ns`.
void add_samples(size_t arm, double step_ns, const ReplaySpec& spec,
                 std::vector<MeasuredSample>& samples) {
  for (int pair = 0; pair < spec.pairs; ++pair) {
    // A sawtooth that differs between arms: pairs then have a spread, and always the same one.
    const double phase = (pair * (7 + 2 * static_cast<int>(arm)) % 11 - 5) / 5.0;
    MeasuredSample sample{arm, pair, static_cast<int>(arm), {}, pair == 0 ? "warm-up" : ""};
    sample.value.step_ns = static_cast<int64_t>(step_ns * (1 + spec.noise * phase));
    samples.push_back(sample);
  }
}

// What preserve-replay finds in these samples.
Measurement measured_replay(const Schedule& schedule, const ReplaySpec& spec) {
  const auto baseline_ns = static_cast<double>(schedule.plan.baseline_step_ns);
  Measurement measurement;
  std::vector<std::string> arms{"baseline"};
  const auto add = [&](const char* name, double step_ns) {
    add_samples(arms.size(), step_ns, spec, measurement.samples);
    arms.emplace_back(name);
  };
  add_samples(0, baseline_ns * 1.02, spec, measurement.samples);
  if (spec.prefetch_arm) add("prefetch", baseline_ns * 1.02 / spec.prefetch_speedup);
  add("null", baseline_ns * 1.021);
  if (spec.overlap_arm) add("overlap", baseline_ns * 1.02);
  if (spec.busy) {
    for (MeasuredSample& sample : measurement.samples) sample.value.interrupted = true;
  }
  ReplayResult& result = measurement.result;
  result = judge(measurement.samples, arms, {});
  result.passes = spec.pairs;
  result.stop_reason = "time-limit";
  result.ranks = result.recorded_ranks = schedule.ranks;
  result.link_latency_ns = schedule.link_latency_ns;
  result.recorded_step_ns = schedule.plan.baseline_step_ns;
  result.fidelity = result.arms[0].step_ns->estimate / baseline_ns;
  result.fidelity_op_median = result.fidelity_op_p10 = result.fidelity_op_p90 = 1.02;
  result.predicted_speedup = schedule.plan.speedup;
  result.predicted_baseline_step_ns = schedule.plan.baseline_step_ns;
  result.predicted_prefetch_step_ns = schedule.plan.prefetch_step_ns;
  if (const auto& speedup = result.arms[1].speedup) {
    result.prediction_error = result.predicted_speedup / speedup->estimate - 1;
  }
  if (spec.prefetch_arm) result.collective_slowdown = 1.05;
  if (!spec.warning.empty()) result.warnings = {spec.warning};
  return measurement;
}

void add_arm_op(TraceDb& db, int64_t arm, const StepOp& op, double dur_ns) {
  db.execute("INSERT INTO arm_op VALUES (?, 0, ?, ?, ?, ?, 39)",
             {arm, static_cast<int64_t>(op.ordinal), op.name, std::llround(dur_ns), int64_t{10}});
}

}  // namespace

Schedule make_schedule(const std::filesystem::path& trace, int64_t link_latency_ns) {
  const FoldedStep step = fold_step(TraceDb::open(trace));
  Schedule schedule;
  schedule.trace_path = "trace.db";
  schedule.trace_sha256 = sha256_of_file(trace);
  schedule.ranks = 2;
  schedule.step_ops = static_cast<int64_t>(step.ops.size());
  schedule.device_name = "Test processor";
  schedule.method.name = "load";
  schedule.method.placement = "consumer";
  schedule.method.chunk_bytes = 4096;
  schedule.budget_bytes = 4 * kMiB;
  schedule.link_latency_ns = link_latency_ns;
  Plan& plan = schedule.plan;
  plan.strategy = Strategy::flow;
  plan.verdict = PlanVerdict::prefetch;
  plan.reasons = {"the windows carry enough to matter"};
  double saved_ns = 0;
  int64_t baseline_ns = std::llround(step.wall_ns);
  for (size_t i = 0; i < step.ops.size(); ++i) {
    if (step.ops[i].kind != OpKind::collective) continue;
    baseline_ns += link_latency_ns;
    plan.windows.push_back(plan_window(step, i, link_latency_ns));
    for (const PlannedPrefetch& p : plan.windows.back().prefetches)
      saved_ns += p.predicted_saved_ns;
  }
  plan.baseline_step_ns = baseline_ns;
  plan.prefetch_step_ns = baseline_ns - std::llround(saved_ns);
  plan.speedup =
      static_cast<double>(plan.baseline_step_ns) / static_cast<double>(plan.prefetch_step_ns);
  plan.objective_ns = std::llround(saved_ns);
  plan.cache_peak_bytes = kMiB;
  schedule.all_hot_step_ns = baseline_ns / 2;
  schedule.window_limited_step_ns = plan.prefetch_step_ns - 1000;
  schedule.cache_limited_step_ns = plan.prefetch_step_ns - 2000;
  return schedule;
}

void write_schedule(const std::filesystem::path& path, const Schedule& schedule) {
  OutputFile(path, true).write(to_json(schedule));
}

void write_replay(const std::filesystem::path& path, const std::filesystem::path& schedule_path,
                  const ReplaySpec& spec, const std::function<void(TraceDb&)>& tweak) {
  const Schedule schedule = load_schedule(schedule_path);
  std::filesystem::remove(path);
  TraceDb db = TraceDb::create(path);
  db.set_meta("kind", "replay");
  db.set_meta("schedule_sha256", sha256_of_file(schedule_path));
  db.set_meta("collective", schedule.link_latency_ns > 0 ? "mpi+link" : "mpi");
  db.set_meta("device_name", "Test processor");
  db.set_meta("executor", "cpu");
  db.add(DeviceRow{
      .host = "testhost", .kind = "cpu", .name = "Test processor", .cache_bytes = 32 * kMiB});
  const Measurement measurement = measured_replay(schedule, spec);
  write_result(db, measurement.result);
  write_samples(db, measurement.samples);
  const FoldedStep step =
      fold_step(TraceDb::open(schedule_path.parent_path() / "trace.db"), schedule.rank);
  for (const StepOp& op : step.ops) {
    const bool collective = op.kind == OpKind::collective;
    const double link_ns = collective ? static_cast<double>(schedule.link_latency_ns) : 0;
    add_arm_op(db, 1, op, op.dur_ns * 1.02 + link_ns);
    if (spec.prefetch_arm) add_arm_op(db, 2, op, op.dur_ns * (collective ? 1.05 : 0.9) + link_ns);
  }
  if (tweak) tweak(db);
  db.finish();
}

std::vector<std::filesystem::path> write_two_scenarios(const std::filesystem::path& directory,
                                                       int layers) {
  const auto trace = directory / "trace.db";
  write_synthetic_trace(trace, {.layers = layers}, [](TraceDb& db) {
    db.set_meta("tool_version", "0.1.0");
    db.add(DeviceRow{.host = "testhost",
                     .kind = "cpu",
                     .name = "Test processor",
                     .cache_bytes = 32 * kMiB,
                     .memory_bandwidth_bytes_per_s = 20'000'000'000,
                     .units = 4});
    db.add_env({1}, "OMP_NUM_THREADS", "1");
    db.add_loss({1}, "nvtx", "received", 1000);
    db.add_loss({1}, "nvtx", "dropped", 3);
  });
  write_schedule(directory / "schedule.json", make_schedule(trace));
  write_replay(directory / "replay.db", directory / "schedule.json", {.prefetch_speedup = 1.002});
  write_schedule(directory / "schedule-link.json", make_schedule(trace, 200'000));
  write_replay(directory / "replay-link.db", directory / "schedule-link.json",
               {.warning = "the machine was busy"});
  return {trace, directory / "schedule.json", directory / "replay.db",
          directory / "schedule-link.json", directory / "replay-link.db"};
}

std::string golden(const std::string& name, const std::string& actual) {
  const std::filesystem::path path =
      std::filesystem::path(PRESERVE_SOURCE_DIR) / "tests/reports/golden" / name;
  const char* update = std::getenv("UPDATE_GOLDEN");
  if (update != nullptr && std::string(update) == "1") OutputFile(path, true).write(actual);
  return read_text_file(path);
}

}  // namespace preserve::test
