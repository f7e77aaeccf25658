// SPDX-License-Identifier: Apache-2.0
#include "apply/run/graph_plan.h"

#include <algorithm>
#include <map>

#include "apply/kernel_name.h"
#include "common/enum_words.h"
#include "common/error.h"
#include "common/number.h"
#include "common/text.h"
#include "common/units.h"
#include "db/trace_db.h"

namespace preserve::apply {
namespace {

constexpr int64_t kLeastChunkBytes = 16, kMostChunkBytes = 1 << 24;
constexpr std::string_view kArgument = ".arg";

// Copies and fills are nodes of other kinds; these are the names that recordings give them.
bool is_kernel(const std::string& name) {
  return name != "memcpy" && name != "memset" && !name.starts_with("memcpy ") &&
         !name.starts_with("memset ");
}

// "<kernel>.<number>.arg<byte>", as the recording names what nobody named.
struct Operand {
  std::string kernel;
  uint32_t argument = 0;
};
std::optional<Operand> operand_of(const std::string& tensor) {
  const size_t at = tensor.rfind(kArgument);
  if (at == std::string::npos) return std::nullopt;
  const size_t dot = tensor.rfind('.', at - 1);
  if (at == 0 || dot == std::string::npos || dot == 0) return std::nullopt;
  const auto argument = number_of<uint32_t>(std::string_view(tensor).substr(at + kArgument.size()));
  if (!argument || *argument > UINT16_MAX) return std::nullopt;
  return Operand{tensor.substr(0, dot), *argument};
}

class Compiler {
 public:
  Compiler(const Schedule& schedule, const FoldedStep& step,
           const std::vector<int64_t>& kernel_streams, const std::set<std::string>& regions,
           const PlanRequest& request)
      : schedule_(schedule),
        step_(step),
        regions_(regions),
        request_(request),
        name_(request.schedule.string()) {
    set_header();
    positions_.resize(step.ops.size());
    for (const StepOp& op : step.ops) {
      const int64_t stream = step.streams.at(static_cast<size_t>(op.stream));
      const bool on_gpu = std::ranges::find(kernel_streams, stream) != kernel_streams.end();
      if (!on_gpu || !is_kernel(op.name)) continue;
      positions_[static_cast<size_t>(op.ordinal)] =
          static_cast<uint32_t>(compiled_.content.kernels.size());
      compiled_.content.kernels.push_back(kernel_name(op.name));
    }
  }

  CompiledGraphPlan compile() {
    if (compiled_.content.kernels.empty()) {
      throw input_error("{}: the step that it was made from has no kernels of a GPU", name_);
    }
    for (const PlannedWindow& window : schedule_.plan.windows) add(window);
    if (compiled_.content.windows.empty()) {
      throw input_error(
          "{}: nothing of it can be applied to CUDA graphs{}{}", name_,
          unnamed_bytes_ > 0
              ? ": neither parameters of kernels nor NVTX memory regions say where its tensors "
                "are: record with CUDA parameters (preserve-profile --params on)"
              : "",
          elsewhere_ > 0 ? ": none of its windows is at a kernel" : "");
    }
    if (unnamed_bytes_ > 0) {
      compiled_.warnings.push_back(fmt::format(
          "{} per step are left out: neither a parameter of the kernel that reads them nor an NVTX "
          "memory region says where they are (the first is {})",
          format_size(static_cast<uint64_t>(unnamed_bytes_)), printable(first_unnamed_, 60)));
    }
    if (elsewhere_ > 0) {
      compiled_.warnings.push_back(
          fmt::format("{} not at a kernel and left out",
                      elsewhere_ == 1 ? "a window of the schedule is"
                                      : fmt::format("{} windows of the schedule are", elsewhere_)));
    }
    return std::move(compiled_);
  }

 private:
  void set_header() {
    const IssueMethod& issue = method_of(schedule_, schedule_.plan);
    GraphPlanHeader& header = compiled_.content.header;
    const auto fetch = find_word<GraphFetch>(kGraphFetchNames, issue.name);
    if (!fetch) {
      throw input_error("{}: its prefetch method \"{}\" of {} is not one of a GPU ({})", name_,
                        printable(issue.name, 60), printable(schedule_.device_name, 60),
                        fmt::join(kGraphFetchNames, ", "));
    }
    header.fetch = *fetch;
    header.kept = issue.eviction == "last" ? 1 : 0;
    header.mode = request_.mode;
    header.ranks = static_cast<uint32_t>(std::max<int64_t>(1, schedule_.ranks));
    header.budget_bytes = static_cast<uint64_t>(std::max<int64_t>(0, schedule_.budget_bytes));
    if (issue.ctas > 0) {
      header.blocks = static_cast<uint32_t>(std::min<int64_t>(issue.ctas, kMostBlocks));
    }
    if (issue.chunk_bytes > 0) {
      header.chunk_bytes = static_cast<uint32_t>(
          std::clamp(issue.chunk_bytes / 16 * 16, kLeastChunkBytes, kMostChunkBytes));
    }
    header.folder = compiled_.content.add_text(request_.folder.string());
  }

  std::optional<uint32_t> position(int32_t ordinal) const {
    if (ordinal < 0 || static_cast<size_t>(ordinal) >= positions_.size()) return std::nullopt;
    return positions_[static_cast<size_t>(ordinal)];
  }

  void add(const PlannedWindow& window) {
    GraphPlanContent& content = compiled_.content;
    if (window.prefetches.empty()) return;
    const std::optional<uint32_t> kernel = position(window.ordinal);
    if (!kernel) {
      ++elsewhere_;
      return;
    }
    const auto first = static_cast<uint32_t>(content.slices.size());
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      const std::optional<uint32_t> consumer = position(prefetch.consumer_ordinal);
      const std::optional<Operand> operand = operand_of(prefetch.tensor);
      // The name says which parameter of that kernel it is, not which of another one.
      const bool by_argument =
          consumer && operand && kernel_name(operand->kernel) == content.kernels[*consumer];
      const bool by_name = !by_argument && consumer && regions_.contains(prefetch.tensor);
      if (!by_argument && !by_name) {
        if (unnamed_bytes_ == 0) first_unnamed_ = prefetch.tensor;
        unnamed_bytes_ = checked_add(unnamed_bytes_, prefetch.length_bytes, "planned bytes");
        continue;
      }
      content.slices.push_back({*consumer, by_name ? kByName : operand->argument,
                                by_name ? tensor_named(prefetch.tensor) : 0, 0,
                                static_cast<uint64_t>(prefetch.offset_bytes),
                                static_cast<uint64_t>(prefetch.length_bytes)});
      compiled_.planned_bytes =
          checked_add(compiled_.planned_bytes, prefetch.length_bytes, "planned bytes");
    }
    const auto slices = static_cast<uint32_t>(content.slices.size()) - first;
    if (slices > 0) content.windows.push_back({*kernel, first, slices, 0});
  }

  uint32_t tensor_named(const std::string& name) {
    const auto [place, added] = tensors_.try_emplace(name, 0);
    if (added) place->second = compiled_.content.add_tensor(name);
    return place->second;
  }

  const Schedule& schedule_;
  const FoldedStep& step_;
  const std::set<std::string>& regions_;
  const PlanRequest& request_;
  const std::string name_;
  CompiledGraphPlan compiled_;
  std::vector<std::optional<uint32_t>> positions_;  // of each operator among the kernels
  int64_t unnamed_bytes_ = 0, elsewhere_ = 0;
  std::string first_unnamed_;
  std::map<std::string, uint32_t> tensors_;
};

}  // namespace

bool is_for_graphs(const Schedule& schedule) {
  return method_of(schedule, schedule.plan).ctas > 0;
}

CompiledGraphPlan compile_graph_plan(const Schedule& schedule, const FoldedStep& step,
                                     const std::vector<int64_t>& kernel_streams,
                                     const std::set<std::string>& regions,
                                     const PlanRequest& request) {
  return checked<GraphPlanView>(
      Compiler(schedule, step, kernel_streams, regions, request).compile(), request);
}

CompiledGraphPlan compile_graph_plan(const Schedule& schedule, const PlanRequest& request) {
  require_same_trace(schedule, request.schedule, schedule.trace_path);
  const TraceDb db = TraceDb::open(schedule.trace_path);
  const FoldedStep step =
      fold_step(db, schedule.rank, schedule.prefill ? StepPhase::prefill : StepPhase::decode);
  if (static_cast<int64_t>(step.ops.size()) != schedule.step_ops) {
    throw input_error(
        "{} was planned for a step of {}, and the step of {} has {}: run "
        "preserve-tune on it again",
        request.schedule.string(), count_of(schedule.step_ops, "operator"), schedule.trace_path,
        step.ops.size());
  }
  std::vector<int64_t> streams;
  Query rows = db.query("SELECT id FROM stream WHERE kind = 'gpu'");
  while (rows.next()) streams.push_back(rows.integer(0));
  std::set<std::string> regions;
  Query names = db.query(
      "SELECT s.value FROM tensor t JOIN string s ON s.id = t.name_id WHERE t.source = 'nvtx_mem'");
  while (names.next()) regions.emplace(names.text(0));
  return compile_graph_plan(schedule, step, streams, regions, request);
}

}  // namespace preserve::apply
