// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/schedule_check.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/as_index.h"
#include "common/error.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

class StepCheck {
 public:
  StepCheck(const FoldedStep& step, std::string file) : step_(step), file_(std::move(file)) {
    for (const StepTensor& tensor : step.tensors) extents_.push_back(tensor.bytes);
    for (const StepOp& op : step.ops) {
      for (const StepAccess& access : op.accesses) grow(access);
    }
    for (size_t i = 0; i < step.tensors.size(); ++i) {
      bytes_of_.emplace(step.tensors[i].name, extents_[i]);
    }
  }

  void check(const Plan& plan) const {
    for (const PlannedWindow& window : plan.windows) {
      const StepOp& op = named(window.ordinal, window.name, "window");
      if (!window.prefetches.empty()) require_free(op);
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        named(prefetch.consumer_ordinal, prefetch.consumer, "consumer");
        require_bytes(prefetch);
      }
    }
  }

 private:
  // A tensor reaches as far as its accesses do, whatever size it was registered with.
  void grow(const StepAccess& access) {
    const auto tensor = as_index(access.tensor);
    if (access.tensor < 0 || tensor >= extents_.size()) return;  // no trace.db folds to this
    const int64_t end = checked_add(access.offset_bytes, access.bytes,
                                    fmt::format("{}: the end of \"{}\"", step_.trace_file,
                                                printable(step_.tensors[tensor].name)));
    extents_[tensor] = std::max(extents_[tensor], end);
  }

  const StepOp& named(int32_t ordinal, const std::string& name, const char* role) const {
    if (ordinal < 0 || as_index(ordinal) >= step_.ops.size()) {
      throw input_error("{}: names operator {} as {}, but the step of {} has {}", file_, ordinal,
                        role, step_.trace_file, step_.ops.size());
    }
    const StepOp& op = step_.ops[as_index(ordinal)];
    if (op.name == name) return op;
    throw input_error("{}: calls operator {}, a {}, \"{}\", but {} calls it \"{}\"", file_, ordinal,
                      role, printable(name), step_.trace_file, printable(op.name));
  }

  void require_free(const StepOp& op) const {
    if (op.kind == OpKind::collective || op.kind == OpKind::p2p) return;
    const bool idle = std::all_of(op.accesses.begin(), op.accesses.end(),
                                  [](const StepAccess& access) { return access.bytes == 0; });
    if (idle) return;
    throw input_error(
        "{}: prefetches during operator {} \"{}\", which computes; that is done only during "
        "collectives and idle operators",
        file_, op.ordinal, printable(op.name));
  }

  void require_bytes(const PlannedPrefetch& prefetch) const {
    const auto tensor = bytes_of_.find(prefetch.tensor);
    if (tensor == bytes_of_.end()) {
      throw input_error("{}: fetches tensor \"{}\", which the step of {} does not have", file_,
                        printable(prefetch.tensor), step_.trace_file);
    }
    const int64_t bytes = tensor->second;
    if (prefetch.offset_bytes >= 0 && prefetch.length_bytes > 0 && prefetch.offset_bytes <= bytes &&
        prefetch.length_bytes <= bytes - prefetch.offset_bytes) {
      return;
    }
    throw input_error("{}: fetches {} bytes from byte {} on of tensor \"{}\", which has {}", file_,
                      prefetch.length_bytes, prefetch.offset_bytes, printable(prefetch.tensor),
                      bytes);
  }

  const FoldedStep& step_;
  std::string file_;
  std::vector<int64_t> extents_;  // by tensor
  std::unordered_map<std::string, int64_t> bytes_of_;
};

}  // namespace

std::vector<SignatureCall> signature_of(const FoldedStep& step) {
  std::vector<SignatureCall> signature;
  bool messages = false;
  for (const StepOp& op : step.ops) {
    messages |= op.kind == OpKind::p2p;
    if (op.kind != OpKind::collective || !op.collective) continue;
    const StepCollective& call = *op.collective;
    signature.push_back({.ordinal = op.ordinal,
                         .function = call.function,
                         .blocking = call.blocking,
                         .bytes = call.bytes,
                         .type = call.dtype,
                         .ranks = call.ranks.value_or(0) > 0 ? call.ranks : std::nullopt,
                         .messages = std::exchange(messages, false)});
  }
  if (!signature.empty()) signature.front().messages |= messages;  // steps follow each other
  return signature;
}

void check_schedule(const Schedule& schedule, const std::filesystem::path& path,
                    const FoldedStep& step) {
  if (schedule.step_ops != static_cast<int64_t>(step.ops.size())) {
    throw input_error(
        "{}: was planned for a step of {} operators, but the step of rank {} in {} has {}: run "
        "preserve-tune of this version on the trace",
        path.string(), schedule.step_ops, step.rank, step.trace_file, step.ops.size());
  }
  // Other ranks may send messages of other sizes.
  const bool planned = step.rank == schedule.rank && !schedule.signature.empty();
  if (planned && schedule.signature != signature_of(step)) {
    throw input_error(
        "{}: its signature is not the sequence of collectives in the step of rank {} in {}: run "
        "preserve-tune on the trace",
        path.string(), step.rank, step.trace_file);
  }
  const StepCheck check(step, path.string());
  check.check(schedule.plan);
  for (const Plan& plan : schedule.candidates) check.check(plan);
}

FoldedStep planned_step(const TraceDb& db, std::optional<int64_t> rank, const Schedule& schedule) {
  return fold_step(db, rank, schedule.prefill ? std::optional(StepPhase::prefill) : std::nullopt);
}

}  // namespace preserve
