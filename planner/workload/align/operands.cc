// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/align/operands.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_map>

#include "common/as_index.h"

namespace preserve::align {
namespace {

// A match by classes and order alone, and one that a recorded shape confirms.
constexpr double kMatched = 0.85, kConfirmed = 0.95;
constexpr double kOtherKind = 0.7;  // factor where the kernel rules name another kind, or none
constexpr double kMostDoubt = 0.4;  // taken off where durations disagree by a factor e^2 or more

class OperandWriter {
 public:
  OperandWriter(const Pair& pair, const gpu::KernelRules& rules, double kv_confidence,
                FoldedStep& step)
      : pair_(pair),
        recorded_(pair.recorded),
        modelled_(pair.modelled),
        rules_(rules),
        kv_confidence_(kv_confidence),
        step_(step) {
    for (size_t i = 0; i < step.tensors.size(); ++i) {
      tensors_.emplace(step.tensors[i].name, static_cast<int32_t>(i));
    }
  }

  std::vector<Given> run() {
    int32_t after = 0;  // the first operator after the previous match
    for (const Match& match : pair_.alignment.matches) {
      const Kind kind = modelled_[match.modelled].kind;
      if (kind == Kind::collective) {
        give_message(match);
      } else {
        give_reads(match, kind, after);
      }
      after = recorded_[match.recorded_end - 1].ordinal + 1;
    }
    return std::move(given_);
  }

 private:
  StepOp& operator_of(const Recorded& item) { return step_.ops[as_index(item.ordinal)]; }

  double confidence_of(const Match& match, Kind kind) const {
    if (match.shapes_agree.value_or(false)) return kConfirmed;
    double confidence = kMatched * (match.same_kind ? 1 : kOtherKind);
    confidence *= 1 - kMostDoubt * std::min(1.0, match.misfit / 2);
    return kind == Kind::attention ? confidence * kv_confidence_ : confidence;
  }

  // Named by the program: neither guessed by an importer nor from a model.
  bool named_by_program(const StepOp& op) const {
    return std::ranges::any_of(op.accesses, [&](const StepAccess& access) {
      const TensorRole role = step_.tensors[as_index(access.tensor)].role;
      return !is_guess(access) && access.source != "model" &&
             (role == TensorRole::weight || role == TensorRole::kv);
    });
  }

  int32_t tensor_of(int32_t modelled) {
    const StepTensor& tensor = pair_.model.tensors[as_index(modelled)];
    const auto [found, fresh] =
        tensors_.try_emplace(tensor.name, static_cast<int32_t>(step_.tensors.size()));
    if (fresh) step_.tensors.push_back({tensor.name, tensor.role, tensor.bytes, false});
    return found->second;
  }

  // Each kernel of a split operator reads as large a share as it runs long.
  std::vector<double> shares_until(const Match& match) const {
    const double sum_ns = pair_.dur_ns(match);
    std::vector<double> until{0};
    double done_ns = 0;
    for (size_t i = match.recorded; i < match.recorded_end; ++i) {
      done_ns += recorded_[i].dur_ns;
      until.push_back(sum_ns > 0 ? done_ns / sum_ns
                                 : static_cast<double>(until.size()) /
                                       static_cast<double>(match.recorded_end - match.recorded));
    }
    return until;
  }

  // Of the modelled parts of one operator: the bytes [begin, end) of what it reads.
  struct Slice {
    const StepOp* op = nullptr;
    bool cut = false;  // else all that the operator reads
    int64_t begin = 0, end = 0;
    double share = 0;  // of the operator
  };
  std::vector<Slice> slices_of(const Match& match) const {
    std::vector<Slice> slices;  // an operator that is cut reads one tensor
    for (size_t i = match.modelled; i < match.modelled_end; ++i) {
      const Modelled& part = modelled_[i];
      const StepOp& op = pair_.model_op(i);
      if (slices.empty() || slices.back().op != &op) {
        slices.push_back({&op, part.parts > 1, part.offset_bytes, part.offset_bytes, 0});
      }
      slices.back().end = part.offset_bytes + part.bytes;
      slices.back().share += op.dur_ns > 0 ? part.dur_ns / op.dur_ns : 1;
    }
    return slices;
  }

  void give_reads(const Match& match, Kind kind, int32_t after) {
    const std::vector<double> until = shares_until(match);
    const std::vector<Slice> slices = slices_of(match);
    const bool one_kernel = match.recorded_end - match.recorded == 1;
    for (size_t i = match.recorded; i < match.recorded_end; ++i) {
      StepOp& op = operator_of(recorded_[i]);
      if (named_by_program(op)) continue;
      Given given{.ordinal = op.ordinal, .reads = true};
      std::erase_if(op.accesses, [&](const StepAccess& access) { return replaced(access); });
      const double from = until[i - match.recorded], to = until[i - match.recorded + 1];
      double floor_ns = 0;
      for (const Slice& slice : slices) {
        for (const StepAccess& read : slice.op->accesses) {
          if (read.mode != AccessMode::read) continue;
          const int64_t begin = slice.cut ? slice.begin : 0;
          const int64_t end = slice.cut ? slice.end : read.bytes;
          const auto at = [&, begin, end](double share) {
            return begin + std::llround(static_cast<double>(end - begin) * share);
          };
          op.accesses.push_back({tensor_of(read.tensor), read.offset_bytes + at(from),
                                 at(to) - at(from), AccessMode::read, confidence_of(match, kind),
                                 "model"});
        }
        floor_ns += slice.op->floor_ns * slice.share * (to - from);
      }
      if (op.floor_ns <= 0 && floor_ns > 0) {
        op.floor_ns = std::min(floor_ns, op.dur_ns);
        given.floor = true;
      }
      if (!op.gemm && one_kernel && slices.size() == 1 && slices.front().op->gemm) {
        op.gemm = slices.front().op->gemm;
        op.gemm->n = std::max<int64_t>(
            1, std::llround(static_cast<double>(op.gemm->n) * slices.front().share));
        given.product = true;
      }
      given_.push_back(given);
    }
    if (kind == Kind::attention) give_writes(match, after);
  }

  // What importers guessed of weights and caches; activations stay.
  bool replaced(const StepAccess& access) const {
    const TensorRole role = step_.tensors[as_index(access.tensor)].role;
    return is_guess(access) && access.mode == AccessMode::read && role != TensorRole::activation &&
           role != TensorRole::comm;
  }

  // New keys and values: by the kernel that stores them, else by the product that makes them.
  void give_writes(const Match& match, int32_t after) {
    const StepOp& core = pair_.model_op(match.modelled);
    if (core.ordinal == 0) return;
    const StepOp& writer = pair_.model.ops[as_index(core.ordinal) - 1];
    StepOp* store = nullptr;
    for (int32_t i = after; i < recorded_[match.recorded].ordinal; ++i) {
      StepOp& op = step_.ops[as_index(i)];
      if (rules_.identify(op.name).kernel_class == gpu::KernelClass::kv_store) store = &op;
    }
    if (store == nullptr && after > 0) store = &step_.ops[as_index(after - 1)];
    if (store == nullptr || named_by_program(*store)) return;
    for (const StepAccess& write : writer.accesses) {
      if (write.mode != AccessMode::write) continue;
      const int32_t tensor = tensor_of(write.tensor);
      step_.tensors[as_index(tensor)].written = true;
      store->accesses.push_back({tensor, write.offset_bytes, write.bytes, AccessMode::write,
                                 kMatched * kv_confidence_, "model"});
    }
    given_.push_back({.ordinal = store->ordinal, .reads = true});
  }

  void give_message(const Match& match) {
    StepOp& op = operator_of(recorded_[match.recorded]);
    const StepOp& modelled = pair_.model_op(match.modelled);
    if (!op.collective || op.collective->bytes || !modelled.collective) return;
    if (op.collective->function != modelled.collective->function) return;
    op.collective->bytes = modelled.collective->bytes;
    if (!op.collective->ranks) op.collective->ranks = modelled.collective->ranks;
    given_.push_back({.ordinal = op.ordinal, .message = true});
  }

  const Pair& pair_;
  const std::vector<Recorded>& recorded_;
  const std::vector<Modelled>& modelled_;
  const gpu::KernelRules& rules_;
  double kv_confidence_;
  FoldedStep& step_;
  std::unordered_map<std::string, int32_t> tensors_;  // by name
  std::vector<Given> given_;
};

}  // namespace

bool is_guess(const StepAccess& access) {
  return access.source == "shapes" || access.source == "inferred";
}

std::vector<Given> give_operands(const Pair& pair, const gpu::KernelRules& rules,
                                 double kv_confidence, FoldedStep& step) {
  return OperandWriter(pair, rules, kv_confidence, step).run();
}

}  // namespace preserve::align
