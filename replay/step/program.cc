// SPDX-License-Identifier: Apache-2.0
#include "replay/step/program.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "common/error.h"
#include "common/text.h"
#include "common/units.h"
#include "replay/ranks/group.h"

namespace preserve {
namespace {

constexpr int64_t kLongestNs =
    int64_t{3600} * 1'000'000'000;  // of one operator: beyond is nonsense

int64_t whole_ns(double value, const std::string& name, const FoldedStep& step) {
  if (!(value >= 0 && value <= static_cast<double>(kLongestNs))) {
    throw input_error("{}: operator \"{}\" has a time of {} ns, which cannot be replayed",
                      step.trace_file, printable(name), value);
  }
  return std::llround(value);
}

// Waiting stands in for what cannot be repeated; that is counted, because fidelity suffers.
struct Unrepeatable {
  int64_t overlapping = 0, functions = 0, subgroups = 0, unsized = 0;

  void add_to(std::vector<std::string>& warnings) const {
    const auto add = [&](int64_t count, const char* text) {
      if (count > 0) warnings.push_back(fmt::format("{} {}", count, text));
    };
    add(overlapping,
        "operators overlap others in the recording; replay runs them one by one, so "
        "its step is longer");
    add(functions,
        "communication calls cannot be repeated (point-to-point or unknown function); "
        "replay waits for their recorded time");
    add(subgroups, "collectives of only some ranks; replay waits for their recorded time");
    add(unsized, "collectives of unknown size; replay sends one element");
  }
};

void add_accesses(const StepOp& op, StepProgram& program, const FoldedStep& step, ProgramOp& out) {
  for (const StepAccess& access : op.accesses) {
    if (access.tensor < 0 || static_cast<size_t>(access.tensor) >= step.tensors.size() ||
        access.offset_bytes < 0 || access.bytes < 0) {
      throw input_error("operator \"{}\" of {} has an invalid access", printable(op.name),
                        step.trace_file);
    }
    if (access.bytes == 0) continue;
    const StepTensor& tensor = step.tensors[access.tensor];
    int64_t& size = program.tensors[access.tensor].bytes;
    size = std::max(size, checked_add(access.offset_bytes, access.bytes,
                                      fmt::format("{}: the end of \"{}\"", step.trace_file,
                                                  printable(tensor.name))));
    const TensorSlice slice{access.tensor, access.offset_bytes, access.bytes};
    if (access.mode == AccessMode::write) {
      out.writes.push_back(slice);
    } else if (tensor.role == TensorRole::weight) {
      out.weights.push_back(slice);
    } else {
      out.reads.push_back(slice);
    }
  }
}

int64_t element_bytes(const std::string& dtype) {
  if (dtype == "fp32") return 4;
  if (dtype == "fp16" || dtype == "bf16") return 2;
  if (dtype == "fp8" || dtype == "int8") return 1;
  return 0;
}

// After add_accesses(): puts the slice that holds the whole matrix first.
void add_gemm(const StepOp& op, ProgramOp& out) {
  if (!op.gemm) return;
  int64_t bytes = element_bytes(op.gemm->dtype);
  if (bytes == 0 || __builtin_mul_overflow(bytes, op.gemm->n, &bytes) ||
      __builtin_mul_overflow(bytes, op.gemm->k, &bytes)) {
    return;
  }
  const auto matrix = std::ranges::find(out.weights, bytes, &TensorSlice::bytes);
  if (matrix == out.weights.end()) return;
  std::rotate(out.weights.begin(), matrix, matrix + 1);
  out.gemm = op.gemm;
}

void add_collective(const StepOp& op, int64_t world_size, Unrepeatable& odd, ProgramOp& out) {
  if (op.kind != OpKind::collective && op.kind != OpKind::p2p) return;
  if (!op.collective || !RankCollective::known(op.collective->function)) {
    ++odd.functions;
  } else if (op.collective->ranks && *op.collective->ranks != world_size) {
    ++odd.subgroups;
  } else {
    if (!op.collective->bytes) ++odd.unsized;
    out.collective = op.collective;
  }
}

ReplayArm arm_of(const Schedule& schedule, const Plan& plan, const std::string& name,
                 const std::unordered_map<std::string, int32_t>& tensors) {
  ReplayArm arm{.name = name,
                .kind = ArmKind::plan,
                .method = method_of(schedule, plan),
                .cache_peak_bytes = plan.cache_peak_bytes};
  for (const PlannedWindow& window : plan.windows) {
    if (window.prefetches.empty()) continue;
    ArmWindow out{window.ordinal, {}};
    for (const PlannedPrefetch& prefetch : window.prefetches) {
      const TensorSlice slice{tensors.at(prefetch.tensor), prefetch.offset_bytes,
                              prefetch.length_bytes};
      out.slices.push_back(slice);
      arm.consumers.push_back(prefetch.consumer_ordinal);
      arm.planned_bytes = checked_add(arm.planned_bytes, slice.bytes, "planned bytes");
    }
    arm.windows.push_back(std::move(out));
  }
  std::ranges::sort(arm.consumers);
  arm.consumers.erase(std::unique(arm.consumers.begin(), arm.consumers.end()), arm.consumers.end());
  return arm;
}

}  // namespace

StepProgram program_of(const FoldedStep& step) {
  if (step.ops.empty()) throw input_error("the step of {} has no operators", step.trace_file);
  StepProgram program;
  for (const StepTensor& tensor : step.tensors)
    program.tensors.push_back({tensor.name, tensor.bytes});
  Unrepeatable odd;
  int64_t end_ns = 0;
  for (const StepOp& op : step.ops) {
    ProgramOp out;
    out.kind = op.kind;
    out.name = op.name;
    out.dur_ns = whole_ns(op.dur_ns, op.name, step);
    const int64_t start_ns = whole_ns(std::max(op.start_ns, 0.0), op.name, step);
    // Medians of neighbours may cross by a little without any overlap.
    if (start_ns + out.dur_ns / 2 < end_ns && out.dur_ns > 0) ++odd.overlapping;
    out.gap_ns = std::max<int64_t>(0, start_ns - end_ns);
    end_ns = std::max(end_ns, start_ns + out.dur_ns);
    add_accesses(op, program, step, out);
    add_gemm(op, out);
    add_collective(op, step.world_size, odd, out);
    program.ops.push_back(std::move(out));
  }
  program.step_ns = whole_ns(step.wall_ns, "the whole step", step);
  program.tail_ns = std::max<int64_t>(0, program.step_ns - end_ns);
  for (const ProgramTensor& tensor : program.tensors) {
    program.tensor_bytes =
        checked_add(program.tensor_bytes, tensor.bytes, step.trace_file + ": size of all tensors");
  }
  odd.add_to(program.warnings);
  return program;
}

bool same_operators(const StepProgram& a, const StepProgram& b) {
  const auto same = [](const ProgramOp& x, const ProgramOp& y) {
    if (x.kind != y.kind || x.name != y.name) return false;
    if (x.collective.has_value() != y.collective.has_value()) return false;
    return !x.collective || (x.collective->function == y.collective->function &&
                             x.collective->bytes == y.collective->bytes);
  };
  return std::ranges::equal(a.ops, b.ops, same);
}

std::vector<ReplayArm> arms_of(const StepProgram& program, const Schedule& schedule,
                               bool candidates) {
  std::unordered_map<std::string, int32_t> tensors;
  for (size_t i = 0; i < program.tensors.size(); ++i) {
    tensors.emplace(program.tensors[i].name, static_cast<int32_t>(i));
  }
  std::vector<ReplayArm> arms{{.name = "baseline"}};
  arms.push_back(arm_of(schedule, schedule.plan, "prefetch", tensors));
  arms.push_back(arms[1]);
  arms.back().name = "null";
  arms.back().kind = ArmKind::null_plan;
  arms.back().consumers.clear();
  arms.back().planned_bytes = 0;
  for (ArmWindow& window : arms.back().windows) window.slices.clear();
  arms.push_back(arms[1]);
  arms.back().name = "useless";
  arms.back().kind = ArmKind::useless;
  arms.back().consumers.clear();
  arms.push_back({.name = "hot", .kind = ArmKind::hot});
  if (candidates) {
    for (size_t i = 0; i < schedule.candidates.size(); ++i) {
      arms.push_back(
          arm_of(schedule, schedule.candidates[i], fmt::format("prefetch-{}", i + 1), tensors));
    }
  }
  return arms;
}

}  // namespace preserve
