// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/schedule_check.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "common/as_index.h"
#include "common/error.h"
#include "common/shell_word.h"
#include "common/text.h"

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
      named(window.ordinal, window.name, "window");
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
    int64_t end = 0;
    if (__builtin_add_overflow(access.offset_bytes, access.bytes, &end)) {
      throw input_error("{}: the end of \"{}\" does not fit into 64 bits", step_.trace_file,
                        printable(step_.tensors[tensor].name));
    }
    extents_[tensor] = std::max(extents_[tensor], end);
  }

  void named(int32_t ordinal, const std::string& name, const char* role) const {
    if (ordinal < 0 || as_index(ordinal) >= step_.ops.size()) {
      throw input_error("{}: names operator {} as {}, but the step of {} has {}", file_, ordinal,
                        role, step_.trace_file, step_.ops.size());
    }
    const StepOp& op = step_.ops[as_index(ordinal)];
    if (op.name == name) return;
    throw input_error("{}: calls operator {}, a {}, \"{}\", but {} calls it \"{}\"", file_, ordinal,
                      role, printable(name), step_.trace_file, printable(op.name));
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
  std::vector<int64_t> extents_;                            // by tensor
  std::unordered_map<std::string_view, int64_t> bytes_of_;  // by name
};

// By ordinal.
std::vector<OperatorPlace> places_of(const FoldedStep& step) {
  std::vector<OperatorPlace> places;
  std::unordered_map<int32_t, int64_t> collectives;  // by stream
  std::unordered_map<std::string_view, int32_t> of_path;  // into `places`, which do not move
  places.reserve(step.ops.size());
  for (const StepOp& op : step.ops) {
    int64_t& before = collectives[op.stream];
    OperatorPlace& place = places.emplace_back();
    place.path = fmt::format("{}/{}/{}", before, to_text(op.kind), op.name);
    place.occurrence = of_path[place.path]++;
    before += op.kind == OpKind::collective ? 1 : 0;
  }
  return places;
}

template <typename Use>
void each_plan(Schedule& schedule, Use use) {
  use(schedule.plan);
  for (Plan& plan : schedule.candidates) use(plan);
}

class Moved {
 public:
  Moved(const FoldedStep& step, const std::filesystem::path& path)
      : trace_(step.trace_file), file_(path.string()) {
    const std::vector<OperatorPlace> places = places_of(step);
    std::unordered_map<std::string, int32_t> streams;
    for (size_t i = 0; i < places.size(); ++i) {
      ordinals_.emplace(key(places[i]), static_cast<int32_t>(i));
      const auto [first, is_first] = streams.emplace(places[i].path, step.ops[i].stream);
      if (!is_first && first->second != step.ops[i].stream) ambiguous_.insert(places[i].path);
    }
  }

  int32_t ordinal(const std::optional<OperatorPlace>& place, const std::string& name) const {
    if (!place) {
      throw input_error(
          "{}: names operator \"{}\" by ordinal alone, which holds for the recording that it was "
          "planned from: plan again with preserve-tune {}",
          file_, printable(name), shell_word(trace_));
    }
    if (ambiguous_.contains(place->path)) {
      throw input_error(
          "{}: operator \"{}\" is on several streams of {}, which may take turns in another order "
          "than in the recording that was planned from: plan again with preserve-tune {}",
          file_, printable(place->path), trace_, shell_word(trace_));
    }
    const auto found = ordinals_.find(key(*place));
    if (found != ordinals_.end()) return found->second;
    throw input_error(
        "{}: operator \"{}\", number {} of its path, is not in {}: plan again with preserve-tune "
        "{}",
        file_, printable(place->path), place->occurrence, trace_, shell_word(trace_));
  }

 private:
  static std::string key(const OperatorPlace& place) {
    return fmt::format("{}#{}", place.path, place.occurrence);
  }

  std::string trace_, file_;
  std::unordered_map<std::string, int32_t> ordinals_;
  std::unordered_set<std::string> ambiguous_;
};

bool same_calls(const std::vector<SignatureCall>& a, const std::vector<SignatureCall>& b) {
  return std::ranges::equal(a, b, [](SignatureCall x, const SignatureCall& y) {
    x.ordinal = y.ordinal;
    return x == y;
  });
}

}  // namespace

void name_places(const FoldedStep& step, Schedule& schedule) {
  const std::vector<OperatorPlace> places = places_of(step);
  each_plan(schedule, [&](Plan& plan) {
    for (PlannedWindow& window : plan.windows) {
      window.place = places.at(as_index(window.ordinal));
      for (PlannedPrefetch& prefetch : window.prefetches) {
        prefetch.consumer_place = places.at(as_index(prefetch.consumer_ordinal));
      }
    }
  });
}

void move_to(const FoldedStep& step, const std::filesystem::path& path, Schedule& schedule) {
  std::vector<SignatureCall> signature = signature_of(step);
  if (!same_calls(schedule.signature, signature)) {
    throw input_error(
        "{}: its collectives are not those of the step of rank {} in {}: this is a recording of "
        "another program or of another step; plan again with preserve-tune {}",
        path.string(), step.rank, step.trace_file, shell_word(step.trace_file));
  }
  const Moved moved(step, path);
  each_plan(schedule, [&](Plan& plan) {
    for (PlannedWindow& window : plan.windows) {
      window.ordinal = moved.ordinal(window.place, window.name);
      for (PlannedPrefetch& prefetch : window.prefetches) {
        prefetch.consumer_ordinal = moved.ordinal(prefetch.consumer_place, prefetch.consumer);
        prefetch.next_step = prefetch.consumer_ordinal <= window.ordinal;
      }
    }
    // Streams that do not wait for each other may take turns in another order.
    std::ranges::sort(plan.windows, {}, &PlannedWindow::ordinal);
  });
  schedule.signature = std::move(signature);
  schedule.step_ops = static_cast<int64_t>(step.ops.size());
}

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

FoldedStep fold_planned(const TraceDb& db, const PlannedStep& planned) {
  return fold_step(db, planned.rank,
                   planned.prefill ? std::optional(StepPhase::prefill) : std::nullopt);
}

}  // namespace preserve
