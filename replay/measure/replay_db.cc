// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/replay_db.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "db/trace_db.h"

namespace preserve {
namespace {

// Variables that change how a replay runs. Nothing else of the environment is stored.
constexpr const char* kEnvironment[] = {"OMP_NUM_THREADS", "OPENBLAS_CORETYPE",
                                        "OPENBLAS_NUM_THREADS", "OMPI_MCA_btl", "OMPI_MCA_pml"};

std::string ratio_text(double value) {
  return fmt::format("{:.6f}", value);
}

int64_t whole(double value) {
  return std::llround(value);
}

void write_measurement(TraceDb& db, const Measurement& measurement) {
  std::vector<ArmId> arms;
  for (const ArmResult& arm : measurement.arms) arms.push_back(db.add_arm(arm.name));
  std::map<std::string, int64_t> discarded;
  for (const MeasuredSample& sample : measurement.samples) {
    if (!sample.discarded.empty()) ++discarded[sample.discarded];
    db.execute(
        "INSERT INTO sample (arm_id, pair, position, step_ns, discarded) VALUES (?, ?, ?, ?, ?)",
        {arms[sample.arm].value, int64_t{sample.pair}, int64_t{sample.position},
         sample.value.step_ns,
         sample.discarded.empty() ? SqlValue(nullptr) : SqlValue(sample.discarded)});
  }
  const auto total = static_cast<int64_t>(measurement.samples.size());
  int64_t counted = total;
  for (const auto& [reason, count] : discarded) counted -= count;
  db.add_loss({}, "replay", "received", total);
  db.add_loss({}, "replay", "written", counted);
  for (const auto& [reason, count] : discarded) db.add_loss({}, "replay", reason, count);
}

void write_op_times(TraceDb& db, const ReplayRecord& record, const StepProgram& program) {
  const OpTimes& times = record.op_times;
  for (size_t arm = 0; arm < times.arms; ++arm) {
    const int64_t samples = record.measurement.arms[arm].counted;
    if (samples == 0) continue;
    for (size_t rank = 0; rank < times.ranks; ++rank) {
      for (size_t op = 0; op < times.ops; ++op) {
        const OpTime& time = times.at(arm, rank, op);
        db.execute(
            "INSERT INTO arm_op (arm_id, rank, ordinal, name, median_ns, mad_ns, samples) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            {static_cast<int64_t>(arm + 1), static_cast<int64_t>(rank), static_cast<int64_t>(op),
             program.ops[op].name, whole(time.median_ns), whole(time.mad_ns), samples});
      }
    }
  }
}

void write_step(TraceDb& db, StreamId stream, ProcessId process, int64_t ordinal,
                const std::vector<OpInterval>& intervals, const StepProgram& program,
                const Schedule& schedule, bool on_gpu) {
  if (intervals.empty()) return;
  // Whoever folds the steps of this file again gets the baseline, not a mixture of all arms.
  const StepPhase phase = ordinal == 0 ? StepPhase::decode : StepPhase::unknown;
  const StepId step = db.add(StepRow{process, ordinal, phase, intervals.front().start_ns,
                                     intervals.back().end_ns, "replay"});
  for (size_t i = 0; i < intervals.size(); ++i) {
    const ProgramOp& op = program.ops[i];
    OpRow row;
    row.stream = stream;
    row.kind = op.kind;
    row.name = db.intern(op.name);
    row.start_ns = intervals[i].start_ns;
    row.end_ns = intervals[i].end_ns;
    row.step = step;
    const OpId id = db.add(row);
    if (!op.collective) continue;
    CollectiveRow collective;
    collective.op = id;
    collective.function = op.collective->function;
    collective.bytes = op.collective->bytes;
    collective.dtype = "float32";
    if (on_gpu) collective.dtype = op.collective->dtype;
    collective.ranks = schedule.ranks;
    collective.source = "replay";
    db.add(collective);
  }
}

void write_steps(TraceDb& db, const ReplayRecord& record, const StepProgram& program,
                 const Schedule& schedule) {
  const std::vector<ArmResult>& arms = record.measurement.arms;
  std::map<std::string, DeviceId> devices;
  const bool on_gpu = record.device.kind == "gpu";
  for (size_t rank = 0; rank < record.pids.size(); ++rank) {
    DeviceId& device = devices[record.hosts[rank]];
    if (!device) {
      DeviceRow row = record.device;
      row.host = record.hosts[rank];
      device = db.add(row);
    }
    ProcessRow process;
    process.host = record.hosts[rank];
    process.pid = record.pids[rank];
    process.rank = static_cast<int64_t>(rank);
    process.world_size = schedule.ranks;
    process.command = "preserve-replay";
    process.start_ns = INT64_MAX;
    for (size_t arm = 0; arm < arms.size(); ++arm) {
      const auto& step = record.steps[rank * arms.size() + arm];
      if (step.empty()) continue;
      process.start_ns = std::min(process.start_ns, step.front().start_ns);
      process.end_ns = std::max(process.end_ns, step.back().end_ns);
    }
    const ProcessId process_id = db.add(process);
    if (rank == 0) {
      for (const char* name : kEnvironment) {
        if (const char* value = std::getenv(name)) db.add_env(process_id, name, value);
      }
    }
    for (size_t arm = 0; arm < arms.size(); ++arm) {
      const StreamId stream =
          db.add(StreamRow{process_id, device, on_gpu ? StreamKind::gpu : StreamKind::thread,
                           static_cast<int64_t>(arm), arms[arm].name});
      write_step(db, stream, process_id, static_cast<int64_t>(arm),
                 record.steps[rank * arms.size() + arm], program, schedule, on_gpu);
    }
  }
}

void write_arm_results(TraceDb& db, const Measurement& measurement) {
  for (const ArmResult& arm : measurement.arms) {
    if (arm.counted > 0) db.set_meta(arm.name + "_step_ns", std::to_string(whole(arm.median_ns)));
    if (arm.pairs == 0 || &arm == &measurement.arms.front()) continue;
    db.set_meta(arm.name + "_speedup", ratio_text(arm.speedup.estimate));
    db.set_meta(arm.name + "_pairs", std::to_string(arm.pairs));
    if (arm.pairs < kFewestPairs) continue;
    db.set_meta(arm.name + "_speedup_low", ratio_text(arm.speedup.low));
    db.set_meta(arm.name + "_speedup_high", ratio_text(arm.speedup.high));
  }
  db.set_meta("pairs", std::to_string(measurement.pairs));
  db.set_meta("pairs_counted", std::to_string(measurement.arms[1].pairs));
  db.set_meta("steps_per_sample", std::to_string(measurement.steps_per_sample));
  db.set_meta("stop_reason", measurement.stop_reason);
  db.set_meta("interrupted_kept", measurement.interrupted_kept ? "1" : "0");
  db.set_meta("verdict", to_string(measurement.verdict));
}

void write_issued_bytes(TraceDb& db, const ReplayRecord& record) {
  for (size_t arm = 0; arm < record.issued_bytes.size(); ++arm) {
    const std::string& name = record.measurement.arms[arm].name;
    if (name.rfind("prefetch", 0) != 0) continue;
    db.set_meta(name + "_issued_bytes", std::to_string(whole(record.issued_bytes[arm])));
  }
}

void write_outcome(TraceDb& db, const ReplayRecord& record, const Schedule& schedule) {
  const Outcome& outcome = record.outcome;
  const auto set_ratio = [&](const char* key, double value) {
    if (value > 0) db.set_meta(key, ratio_text(value));
  };
  db.set_meta("recorded_step_ns", std::to_string(outcome.recorded_step_ns));
  if (!outcome.winner.empty()) db.set_meta("winner", outcome.winner);
  set_ratio("fidelity", outcome.fidelity);
  set_ratio("fidelity_op_median", outcome.fidelity_op_median);
  set_ratio("fidelity_op_worst", outcome.fidelity_op_worst);
  if (outcome.fidelity_op_worst > 0) {
    db.set_meta("fidelity_op_worst_name", outcome.fidelity_op_worst_name);
  }
  set_ratio("predicted_speedup", outcome.predicted_speedup);
  db.set_meta("predicted_baseline_step_ns", std::to_string(schedule.plan.baseline_step_ns));
  db.set_meta("predicted_prefetch_step_ns", std::to_string(schedule.plan.prefetch_step_ns));
  if (record.measurement.arms[1].pairs > 0) {
    db.set_meta("prediction_error", ratio_text(outcome.prediction_error));
  }
  db.set_meta("predicted_saved_ns", std::to_string(outcome.predicted_saved_ns));
  db.set_meta("realised_saved_ns", std::to_string(outcome.realised_saved_ns));
  set_ratio("collective_slowdown", outcome.collective_slowdown);
  if (outcome.collective_slowdown > 0) {
    db.set_meta("slowdown_per_byte_ns", ratio_text(outcome.slowdown_per_byte_ns));
  }
}

}  // namespace

void write_replay_db(const std::filesystem::path& path, const ReplayRecord& record,
                     const StepProgram& program, const Schedule& schedule) {
  TraceDb db = TraceDb::create(path);
  db.set_meta("kind", "replay");
  db.set_meta("incomplete", "0");
  for (const auto& [key, value] : record.meta) db.set_meta(key, value);
  write_measurement(db, record.measurement);
  write_op_times(db, record, program);
  write_steps(db, record, program, schedule);
  write_arm_results(db, record.measurement);
  write_issued_bytes(db, record);
  write_outcome(db, record, schedule);
  db.set_meta("warnings", nlohmann::json(record.warnings)
                              .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  db.finish();
}

}  // namespace preserve
