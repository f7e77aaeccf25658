// SPDX-License-Identifier: Apache-2.0
#include "replay/step/job.h"

#include <algorithm>

#include "common/error.h"
#include "common/output_file.h"
#include "common/units.h"
#include "db/losses.h"
#include "db/trace_db.h"
#include "planner/schedule/schedule_check.h"

namespace preserve {
namespace {

void require_link(const ReplayRequest& request, const Schedule& schedule) {
  if (!request.link_latency_ns || *request.link_latency_ns == schedule.link_latency_ns) return;
  const auto text = [](int64_t dur_ns) {
    return dur_ns == 0 ? std::string("no link") : format_duration(dur_ns);
  };
  throw input_error(
      "--link asks for {}, but {} was planned for {}: tune again with the same --link, or leave it "
      "out here",
      text(*request.link_latency_ns), request.schedule, text(schedule.link_latency_ns));
}

StepProgram program_of_rank(const TraceDb& db, int64_t rank, const std::vector<int64_t>& recorded,
                            const std::string& schedule_path, ReplayJob& job) {
  const int64_t planned = job.schedule.rank;
  if (rank == planned) return job.program;
  if (std::ranges::find(recorded, rank) == recorded.end()) {
    job.warnings.push_back(
        fmt::format("rank {} was not recorded; it replays the step of rank {}", rank, planned));
    return job.program;
  }
  const FoldedStep step = fold_planned(db, {rank, job.schedule.prefill});
  StepProgram own = program_of(step);
  if (same_operators(own, job.program)) {
    check_schedule(job.schedule, schedule_path, step);  // its tensors may be smaller ones
    return own;
  }
  job.warnings.push_back(
      fmt::format("rank {} recorded other operators than rank {}; it replays the step of rank {}",
                  rank, planned, planned));
  return job.program;
}

}  // namespace

ReplayJob load_job(const ReplayRequest& request, std::optional<int64_t> rank) {
  ReplayJob job;
  job.schedule = load_schedule(request.schedule);
  const std::string trace_sha256 = sha256_of_file(request.trace);
  const bool moves = request.other_recording && trace_sha256 != job.schedule.trace_sha256;
  if (!moves) require_same_trace(job.schedule, request.schedule, request.trace);
  require_link(request, job.schedule);
  const TraceDb db = TraceDb::open(request.trace);
  job.losses = loss_sentences(db);
  job.pages = db.meta("pages");
  const std::vector<int64_t> recorded = ranks_with_steps(db);
  const FoldedStep step = fold_planned(db, planned_step(job.schedule));
  if (moves) {
    move_to(step, request.schedule, job.schedule);
    job.schedule.trace_sha256 = trace_sha256;
    job.warnings.push_back(
        fmt::format("the schedule is from another recording ({}): its operators were found here by "
                    "path and occurrence, its prediction is for that recording's times",
                    job.schedule.trace_path));
  }
  check_schedule(job.schedule, request.schedule, step);
  job.program = program_of(step);
  job.warnings.insert(job.warnings.end(), step.warnings.begin(), step.warnings.end());
  job.warnings.insert(job.warnings.end(), job.program.warnings.begin(), job.program.warnings.end());
  job.rank_program =
      program_of_rank(db, rank.value_or(job.schedule.rank), recorded, request.schedule, job);
  job.arms = arms_of(job.rank_program, job.schedule, request.candidates);
  job.recorded_step_ns = job.program.step_ns;
  for (const int64_t other : recorded) {
    if (other == job.schedule.rank) continue;
    const double wall_ns = fold_planned(db, {other, job.schedule.prefill}).wall_ns;
    job.recorded_step_ns = std::max(job.recorded_step_ns, static_cast<int64_t>(wall_ns));
  }
  if (job.arms[1].windows.empty()) {
    job.warnings.emplace_back(
        "the schedule fetches nothing: arm prefetch equals the baseline and shows the noise");
  }
  return job;
}

int64_t least_time_ns(const ReplayJob& job) {
  constexpr int64_t kPadSteps = 16, kStepsPerArm = 6;
  const auto collectives = std::ranges::count_if(
      job.program.ops, [](const ProgramOp& op) { return op.collective.has_value(); });
  const int64_t link_ns = checked_mul(collectives, job.schedule.link_latency_ns, "link latency");
  const int64_t steps = kPadSteps + kStepsPerArm * static_cast<int64_t>(job.arms.size());
  return checked_mul(steps, checked_add(job.recorded_step_ns, link_ns, "length of the step"),
                     "length of the measurement");
}

}  // namespace preserve
