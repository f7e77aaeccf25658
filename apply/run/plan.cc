// SPDX-License-Identifier: Apache-2.0
#include "apply/run/plan.h"

#include <algorithm>
#include <map>

#include "common/enum_words.h"
#include "common/text.h"
#include "common/units.h"
#include "hooks/memory/allocations.h"
#include "hooks/mpi/functions.h"

namespace preserve::apply {
namespace {

constexpr int64_t kDefaultChunkBytes = 4096;
constexpr int64_t kLeastChunkBytes = 64, kMostChunkBytes = 1 << 24;

class Compiler {
 public:
  Compiler(const Schedule& schedule, const PlanRequest& request)
      : schedule_(schedule), request_(request), name_(request.schedule.string()) {}

  CompiledPlan compile() {
    require_signature();
    set_header();
    for (const SignatureCall& call : schedule_.signature) add_collective(call);
    add_windows();
    compiled_.content.header.folder = compiled_.content.add_text(request_.folder.string());
    return std::move(compiled_);
  }

 private:
  void require_signature() const {
    if (!schedule_.signature.empty()) return;
    throw input_error(
        "{}: does not say which collectives its step has, by which preserve-apply would recognise "
        "it: it was made by an older preserve-tune, or its step has none; run preserve-tune of "
        "this version on {}",
        name_, schedule_.trace_path.empty() ? "the trace" : printable(schedule_.trace_path));
  }

  Method method(const IssueMethod& issue) const {
    if (issue.ctas > 0) {
      throw input_error(
          "{}: prefetches {}, and preserve-apply fetches on processors alone: plan with another "
          "--method of the device file",
          name_, describe(issue));
    }
    if (const auto found = find_word<Method>(kMethodNames, issue.name)) return *found;
    throw input_error(
        "{}: its prefetch method \"{}\" of {} is not one of a processor ({}): preserve-apply works "
        "on programs whose collectives run on processors",
        name_, printable(issue.name, 60), printable(schedule_.device_name, 60),
        fmt::join(kMethodNames, ", "));
  }

  void set_header() {
    PlanHeader& header = compiled_.content.header;
    const IssueMethod& issue = method_of(schedule_, schedule_.plan);
    header.method = method(issue);
    // preserve-tune chooses a spare core where that pays.
    header.via = request_.via.value_or(issue.placement == "spare" ? Via::spare : Via::measured);
    header.mode = request_.mode;
    header.ranks = static_cast<uint32_t>(schedule_.ranks);
    const int64_t chunk_bytes = issue.chunk_bytes > 0 ? issue.chunk_bytes : kDefaultChunkBytes;
    header.chunk_bytes =
        static_cast<uint32_t>(std::clamp(chunk_bytes, kLeastChunkBytes, kMostChunkBytes));
    header.link_latency_ns = schedule_.link_latency_ns;
  }

  void add_collective(const SignatureCall& call) {
    const mpi::Function function = mpi::first_like(call.function, call.blocking);
    if (function == mpi::kFunctionCount || call.type.size() > sizeof(PlanCollective::type)) {
      throw input_error(
          "{}: collective {} of its signature, \"{}\" of type \"{}\", is not one of MPI: "
          "preserve-apply works on MPI programs",
          name_, call.ordinal, printable(call.function, 60), printable(call.type, 60));
    }
    PlanCollective collective{};
    collective.bytes = call.bytes.value_or(-1);
    collective.ranks = static_cast<uint32_t>(call.ranks.value_or(0));
    collective.function = function;
    collective.after_messages = call.messages ? kYes : kNo;
    collective.type_bytes = static_cast<uint8_t>(call.type.size());
    std::ranges::copy(call.type, collective.type);
    compiled_.content.collectives.push_back(collective);
  }

  std::optional<uint32_t> position_of(int32_t ordinal) const {
    const auto& calls = schedule_.signature;
    const auto found = std::ranges::lower_bound(calls, ordinal, {}, &SignatureCall::ordinal);
    if (found == calls.end() || found->ordinal != ordinal) return std::nullopt;
    return static_cast<uint32_t>(found - calls.begin());
  }

  uint32_t tensor_named(const std::string& name) {
    const auto [found, added] = tensors_.try_emplace(name, 0);
    if (added) {
      const bool is_allocation = name.starts_with(hooks::kAllocationPrefix);
      found->second = compiled_.content.add_tensor(
          name, is_allocation ? TensorKind::allocation : TensorKind::region);
    }
    return found->second;
  }

  void add_slices(const PlannedWindow& window) {
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      const uint32_t tensor = tensor_named(prefetch.tensor);
      const auto offset_bytes = static_cast<uint64_t>(prefetch.offset_bytes);
      const auto length_bytes = static_cast<uint64_t>(prefetch.length_bytes);
      compiled_.content.slices.push_back({tensor, 0, offset_bytes, length_bytes});
      PlanTensor& entry = compiled_.content.tensors[tensor];
      entry.bytes = std::max(entry.bytes, offset_bytes + length_bytes);
    }
  }

  void add_windows() {
    PlanContent& content = compiled_.content;
    int64_t elsewhere = 0;
    for (const PlannedWindow& window : schedule_.plan.windows) {
      if (window.prefetches.empty()) continue;
      const std::optional<uint32_t> position = position_of(window.ordinal);
      if (!position) {
        ++elsewhere;
        continue;
      }
      const auto first = static_cast<uint32_t>(content.slices.size());
      add_slices(window);
      content.windows.push_back(
          {*position, first, static_cast<uint32_t>(content.slices.size()) - first, 0});
      compiled_.planned_bytes =
          checked_add(compiled_.planned_bytes, window.used_bytes, "planned bytes");
    }
    if (content.windows.empty()) {
      throw input_error(
          "{}: none of its windows is at a collective, and preserve-apply prefetches during "
          "collectives alone: plan with --windows collective",
          name_);
    }
    if (elsewhere == 0) return;
    compiled_.warnings.push_back(fmt::format(
        "{} of the schedule {} not at a collective and {} left out", count_of(elsewhere, "window"),
        elsewhere == 1 ? "is" : "are", elsewhere == 1 ? "is" : "are"));
  }

  const Schedule& schedule_;
  const PlanRequest& request_;
  const std::string name_;
  CompiledPlan compiled_;
  std::map<std::string, uint32_t> tensors_;
};

}  // namespace

CompiledPlan compile_plan(const Schedule& schedule, const PlanRequest& request) {
  return checked<PlanView>(Compiler(schedule, request).compile(), request);
}

}  // namespace preserve::apply
