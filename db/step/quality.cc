// SPDX-License-Identifier: Apache-2.0
#include "db/step/quality.h"

#include "common/error.h"
#include "common/units.h"
#include "db/step/folded_step.h"

namespace preserve {
namespace {

// Recordings of an idle machine have at most 3 % and 8 %, those of one with another process on
// every core at least 20 % or 24 %; a KV-cache that doubles while it is recorded makes operators
// vary by 17 % (docs/metrics.md).
constexpr double kMostIrregular = 0.15, kMostVarying = 0.2;
constexpr int64_t kFewSteps = 8;             // below, a median of a few says nothing of the rest
constexpr int64_t kMostOperators = 250'000;  // bounds the memory

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

}  // namespace

bool RecordingQuality::too_noisy() const {
  return steps_used >= kFewSteps && (irregular() > kMostIrregular || varying > kMostVarying);
}

void add_quality(TraceDb& db) {
  std::vector<ProcessId> processes;
  {
    Query rows = db.query("SELECT DISTINCT process_id FROM step ORDER BY process_id");
    while (rows.next()) processes.push_back({rows.integer(0)});
  }
  if (processes.empty()) return;
  for (const ProcessId process : processes) {
    const FoldedStep step = fold_times(db, process, kMostOperators);
    if (step.ops.empty()) continue;
    double sum_ns = 0, sum_mad_ns = 0;
    for (const StepOp& op : step.ops) {
      sum_ns += op.dur_ns;
      sum_mad_ns += op.mad_ns;
    }
    db.execute("INSERT INTO quality VALUES (?,?,?,?,?,?,?,?,?)",
               {process.value, step.steps_total, step.steps_used, step.interrupted, step.wall_ns,
                step.wall_mad_ns, step.explained_ns, step.repeating_ns,
                sum_ns > 0 ? sum_mad_ns / sum_ns : 0.0});
  }
}

std::optional<RecordingQuality> worst_quality(const TraceDb& db) {
  // Files of an earlier build have no such table.
  if (!db.query_integer("SELECT 1 FROM sqlite_master WHERE name = 'quality'")) return std::nullopt;
  std::optional<RecordingQuality> worst;
  Query rows = db.query(
      "SELECT rank, steps, steps_used, interrupted, step_ns, step_mad_ns, explained_ns, "
      "repeating_ns, varying FROM quality JOIN process ON process.id = process_id "
      "ORDER BY rank IS NULL, rank, process_id");
  while (rows.next()) {
    RecordingQuality quality{.rank = rows.optional_integer(0),
                             .steps = rows.integer(1),
                             .steps_used = rows.integer(2),
                             .interrupted = rows.integer(3),
                             .step_ns = rows.real(4),
                             .step_mad_ns = rows.real(5),
                             .explained_ns = rows.real(6),
                             .repeating_ns = rows.real(7),
                             .varying = rows.real(8)};
    const auto badness = [](const RecordingQuality& each) {
      return std::max(each.irregular() / kMostIrregular, each.varying / kMostVarying);
    };
    const bool worse =
        !worst || quality.too_noisy() > worst->too_noisy() ||
        (quality.too_noisy() == worst->too_noisy() && badness(quality) > badness(*worst));
    if (worse) worst = quality;
  }
  return worst;
}

std::string describe(const RecordingQuality& quality) {
  const double step_ns = std::max(1.0, quality.step_ns);
  return fmt::format(
      "{}steps of {} (MAD {}), {} of it in operators; {} of the step and {} of the operators' time "
      "differ from step to step; {} of {} steps interrupted",
      quality.rank ? fmt::format("rank {}: ", *quality.rank) : "", format_duration(quality.step_ns),
      percent(quality.step_mad_ns / step_ns), percent(quality.explained_ns / step_ns),
      percent(std::max(0.0, quality.irregular())), percent(quality.varying), quality.interrupted,
      quality.steps_used);
}

void report_quality(const TraceDb& db, Console& console) {
  const std::optional<RecordingQuality> quality = worst_quality(db);
  if (!quality) return;
  const std::string text = fmt::format("{}: {}", db.file(), describe(*quality));
  if (quality->too_noisy()) {
    console.warn(text + ": too noisy to plan from; record again on a quiet machine");
  } else {
    console.info(text);
  }
}

void require_quality(const TraceDb& db, bool force) {
  const std::optional<RecordingQuality> quality = worst_quality(db);
  if (force || !quality || !quality->too_noisy()) return;
  throw input_error(
      "{}: too noisy to plan from: {}. Record again on a quiet machine, with a core for every "
      "rank, or plan from it nevertheless with --force",
      db.file(), describe(*quality));
}

}  // namespace preserve
