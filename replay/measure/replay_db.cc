// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/replay_db.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace preserve {
namespace {

// Variables that change how a replay runs. Nothing else of the environment is stored.
constexpr const char* kEnvironment[] = {"OMP_NUM_THREADS", "OPENBLAS_CORETYPE",
                                        "OPENBLAS_NUM_THREADS", "OMPI_MCA_btl", "OMPI_MCA_pml"};

int64_t whole(double value) {
  return std::llround(value);
}

void write_op_times(TraceDb& db, const ReplayRecord& record, const StepProgram& program) {
  const OpTimes& times = record.op_times;
  for (size_t arm = 0; arm < times.arms; ++arm) {
    const int64_t samples = record.result.arms[arm].counted;
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
  // Folding the steps of this file again must give the baseline, not a mixture of all arms.
  const StepPhase phase = ordinal == 0 ? StepPhase::decode : StepPhase::unknown;
  const StepId step = db.add(StepRow{process, ordinal, phase, intervals.front().start_ns,
                                     intervals.back().end_ns, "replay"});
  for (size_t i = 0; i < intervals.size(); ++i) {
    const ProgramOp& op = program.ops[i];
    const OpId id = db.add(OpRow{.stream = stream,
                                 .kind = op.kind,
                                 .name = db.intern(op.name),
                                 .start_ns = intervals[i].start_ns,
                                 .end_ns = intervals[i].end_ns,
                                 .step = step});
    if (!op.collective) continue;
    db.add(CollectiveRow{.op = id,
                         .function = op.collective->function,
                         .bytes = op.collective->bytes,
                         .dtype = on_gpu ? std::string_view(op.collective->dtype) : "float32",
                         .ranks = schedule.ranks,
                         .source = "replay"});
  }
}

void write_steps(TraceDb& db, const ReplayRecord& record, const StepProgram& program,
                 const Schedule& schedule) {
  const std::vector<ArmResult>& arms = record.result.arms;
  std::map<std::string, DeviceId> devices;
  const bool on_gpu = record.device.kind == "gpu";
  for (size_t rank = 0; rank < record.pids.size(); ++rank) {
    DeviceId& device = devices[record.hosts[rank]];
    if (!device) {
      DeviceRow row = record.device;
      row.host = record.hosts[rank];
      device = db.add(row);
    }
    ProcessRow process{.host = record.hosts[rank],
                       .pid = record.pids[rank],
                       .rank = static_cast<int64_t>(rank),
                       .world_size = schedule.ranks,
                       .command = "preserve-replay",
                       .start_ns = INT64_MAX};
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

}  // namespace

void write_samples(TraceDb& db, const std::vector<MeasuredSample>& samples) {
  std::map<std::string, int64_t> discarded;
  for (const MeasuredSample& sample : samples) {
    if (!sample.discarded.empty()) ++discarded[sample.discarded];
    write_sample(db, sample.arm, sample.pair, sample.position, sample.value.step_ns,
                 sample.discarded);
  }
  const auto total = static_cast<int64_t>(samples.size());
  int64_t counted = total;
  for (const auto& [reason, count] : discarded) counted -= count;
  db.add_loss({}, "replay", "received", total);
  db.add_loss({}, "replay", "written", counted);
  for (const auto& [reason, count] : discarded) db.add_loss({}, "replay", reason, count);
}

void write_replay_db(const std::filesystem::path& path, const ReplayRecord& record,
                     const StepProgram& program, const Schedule& schedule) {
  TraceDb db = TraceDb::create(path);
  db.set_meta("kind", "replay");
  db.set_meta("incomplete", "0");
  for (const auto& [key, value] : record.meta) db.set_meta(key, value);
  write_result(db, record.result);
  write_samples(db, record.samples);
  write_op_times(db, record, program);
  write_steps(db, record, program, schedule);
  db.finish();
}

}  // namespace preserve
