// SPDX-License-Identifier: Apache-2.0
#include "db/step/repetitions.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "common/error.h"

namespace preserve {
namespace {

constexpr int64_t kFirstStepIsCold = 3;  // with more steps than this, the first is left out

// What must agree for two repetitions to be the same step: operators per stream, in order. The
// interleaving of streams may differ from step to step.
using Signature = std::vector<std::array<int64_t, 3>>;

Signature signature_of(const RawStep& step) {
  Signature signature;
  signature.reserve(step.ops.size());
  for (const RawOp& op : step.ops) {
    signature.push_back({op.stream, op.name_id, static_cast<int64_t>(op.kind)});
  }
  return signature;
}

void require_order(const TraceDb& db, const char* what, int64_t start_ns, int64_t end_ns) {
  int64_t dur_ns = 0;
  if (__builtin_sub_overflow(end_ns, start_ns, &dur_ns) || dur_ns < 0) {
    throw input_error("{}: is damaged: {} from {} to {} ns", db.file(), what, start_ns, end_ns);
  }
}

// Of long recordings about: counting all would take as long as reading a third of them.
int64_t operators_in(const TraceDb& db, const std::vector<RawStep>& steps) {
  constexpr size_t kMostCounted = 64;
  const size_t stride = 1 + steps.size() / kMostCounted;
  int64_t operators = 0, counted = 0;
  for (size_t i = 0; i < steps.size(); i += stride, ++counted) {
    operators +=
        db.query_integer("SELECT COUNT(*) FROM op WHERE step_id = ?", {steps[i].id}).value_or(0);
  }
  return operators * std::ssize(steps) / counted;
}

// Evenly spaced ones when together they have more than `most_operators`.
std::vector<RawStep> load_steps(const TraceDb& db, int64_t most_operators, StepPhase phase,
                                FoldedStep& folded) {
  const ProcessId process = folded.process;
  const bool recorded =
      db.query_integer("SELECT 1 FROM step WHERE process_id = ? AND phase = ? LIMIT 1",
                       {process.value, std::string(to_text(phase))})
          .has_value();
  folded.phase = !recorded && phase == StepPhase::decode ? StepPhase::unknown : phase;
  std::vector<RawStep> steps;
  std::map<int64_t, size_t> by_id;
  Query rows = db.query(
      "SELECT id, start_ns, end_ns, source FROM step WHERE process_id = ? AND phase = ? "
      "ORDER BY ordinal",
      {process.value, std::string(to_text(folded.phase))});
  while (rows.next()) {
    by_id[rows.integer(0)] = steps.size();
    steps.push_back({rows.integer(0), rows.integer(1), rows.integer(2), {}});
    require_order(db, "a step", rows.integer(1), rows.integer(2));
    folded.source = std::string(rows.text(3));
  }
  bool spaced = false;
  if (most_operators != kAllOperators && !steps.empty()) {
    const auto stride = static_cast<size_t>(1 + operators_in(db, steps) / most_operators);
    spaced = stride > 1;
    std::vector<RawStep> kept;
    for (size_t i = 0; i < steps.size(); i += stride) kept.push_back(std::move(steps[i]));
    steps = std::move(kept);
    by_id.clear();
    for (size_t i = 0; i < steps.size(); ++i) by_id[steps[i].id] = i;
  }
  const auto take = [&](Query ops) {
    while (ops.next()) {
      const auto step = by_id.find(ops.integer(0));
      if (step == by_id.end()) continue;  // another phase
      require_order(db, "an operator", ops.integer(5), ops.integer(6));
      steps[step->second].ops.push_back({ops.integer(1), ops.integer(2), ops.integer(3),
                                         ops.op_kind(4), ops.integer(5), ops.integer(6)});
    }
  };
  const std::string columns =
      "SELECT op.step_id, op.id, op.stream_id, op.name_id, op.kind, op.start_ns, op.end_ns ";
  if (spaced) {
    for (const RawStep& step : steps) {
      take(db.query(columns + "FROM op WHERE op.step_id = ?", {step.id}));
    }
  } else {
    take(db.query(columns + "FROM step JOIN op ON op.step_id = step.id WHERE step.process_id = ?",
                  {process.value}));
  }
  for (RawStep& step : steps) {
    std::ranges::sort(step.ops, [](const RawOp& a, const RawOp& b) {
      return std::tie(a.stream, a.start_ns, a.id) < std::tie(b.stream, b.start_ns, b.id);
    });
  }
  return steps;
}

// Keeps the repetitions with the most frequent signature (the earliest of equals).
std::vector<RawStep> most_frequent(std::vector<RawStep> steps, FoldedStep& folded) {
  std::map<Signature, std::vector<size_t>> groups;
  for (size_t i = 0; i < steps.size(); ++i) groups[signature_of(steps[i])].push_back(i);
  const auto best = std::ranges::max_element(groups, [](const auto& a, const auto& b) {
    if (a.second.size() != b.second.size()) return a.second.size() < b.second.size();
    return a.second.front() > b.second.front();
  });
  if (groups.size() > 1) {
    folded.warnings.push_back(
        fmt::format("{} of {} steps have another operator sequence than the most frequent one and "
                    "were left out",
                    steps.size() - best->second.size(), steps.size()));
  }
  std::vector<RawStep> kept;
  for (const size_t i : best->second) kept.push_back(std::move(steps[i]));
  return kept;
}

}  // namespace

std::vector<RawStep> alike_steps(const TraceDb& db, int64_t most_operators, StepPhase phase,
                                 FoldedStep& folded) {
  std::vector<RawStep> steps = load_steps(db, most_operators, phase, folded);
  folded.steps_total = static_cast<int64_t>(steps.size());
  if (folded.steps_total > kFirstStepIsCold) steps.erase(steps.begin());
  std::erase_if(steps, [](const RawStep& step) { return step.ops.empty(); });
  if (!steps.empty()) steps = most_frequent(std::move(steps), folded);
  folded.steps_used = static_cast<int64_t>(steps.size());
  return steps;
}

}  // namespace preserve
