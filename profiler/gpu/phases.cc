// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/phases.h"

#include <map>

#include "db/step/phase.h"

namespace preserve::gpu {

PhaseSummary tell_phases(TraceDb& db) {
  // +1 decode, -1 prefill, for each name that says a phase.
  std::map<int64_t, int> verdict_of_name;
  {
    // Names of other things say nothing below; looking for those of kernels would cost more.
    Query rows = db.query("SELECT id, value FROM string");
    while (rows.next()) {
      const StepPhase phase = phase_of_kernel(rows.text(1));
      if (phase != StepPhase::unknown) {
        verdict_of_name[rows.integer(0)] = phase == StepPhase::decode ? 1 : -1;
      }
    }
  }
  std::map<int64_t, int64_t> score;  // step -> ns of decode attention minus ns of prefill attention
  if (!verdict_of_name.empty()) {
    Query rows = db.query(
        "SELECT op.step_id, op.name_id, SUM(op.end_ns - op.start_ns) FROM op "
        "JOIN step ON step.id = op.step_id WHERE step.phase = 'unknown' GROUP BY 1, 2");
    while (rows.next()) {
      const auto verdict = verdict_of_name.find(rows.integer(1));
      if (verdict != verdict_of_name.end()) {
        score[rows.integer(0)] += verdict->second * rows.integer(2);
      }
    }
  }
  for (const auto& [step, nanoseconds] : score) {
    if (nanoseconds == 0) continue;
    db.execute("UPDATE step SET phase = ? WHERE id = ?",
               {std::string(nanoseconds > 0 ? "decode" : "prefill"), step});
  }
  PhaseSummary summary;
  Query rows = db.query("SELECT phase, COUNT(*) FROM step GROUP BY phase");
  while (rows.next()) {
    (rows.text(0) == "decode"    ? summary.decode
     : rows.text(0) == "prefill" ? summary.prefill
                                 : summary.unknown) = rows.integer(1);
  }
  return summary;
}

}  // namespace preserve::gpu
