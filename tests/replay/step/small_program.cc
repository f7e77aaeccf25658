// SPDX-License-Identifier: Apache-2.0
#include "tests/replay/step/small_program.h"

#include <fmt/format.h>

#include <algorithm>

namespace preserve::test {
namespace {

void add_tensor(StepProgram& program, const std::string& name, int64_t bytes) {
  program.tensors.push_back({name, bytes});
  program.tensor_bytes += bytes;
}

ProgramOp compute(const std::string& name, const SmallProgram& spec) {
  ProgramOp op;
  op.kind = OpKind::compute;
  op.name = name;
  op.dur_ns = spec.op_ns;
  op.gap_ns = spec.gap_ns;
  return op;
}

ProgramOp allreduce(const SmallProgram& spec) {
  ProgramOp op = compute("allreduce", spec);
  op.kind = OpKind::collective;
  op.dur_ns = spec.collective_ns;
  op.collective = StepCollective{"allreduce", spec.message_bytes, 2, {}, true, "fp16", 24};
  return op;
}

}  // namespace

StepProgram small_program(const SmallProgram& spec) {
  StepProgram program;
  for (int layer = 0; layer < spec.layers; ++layer) {
    const auto first = static_cast<int32_t>(program.tensors.size());
    const std::string prefix = fmt::format("layers.{}.", layer);
    add_tensor(program, prefix + "qkv", spec.weight_bytes);
    add_tensor(program, prefix + "kv", spec.kv_bytes);
    add_tensor(program, prefix + "mlp", spec.weight_bytes);
    ProgramOp qkv = compute("qkv", spec);
    qkv.weights = {{first, 0, spec.weight_bytes}};
    ProgramOp attention = compute("attention", spec);
    attention.reads = {{first + 1, 0, spec.kv_bytes}};
    attention.writes = {{first + 1, spec.kv_bytes - 1000, 100}};
    ProgramOp mlp = compute("mlp", spec);
    mlp.weights = {{first + 2, 0, spec.weight_bytes}};
    for (const ProgramOp& op : {qkv, attention, allreduce(spec), mlp, allreduce(spec)}) {
      program.ops.push_back(op);
    }
  }
  program.tail_ns = spec.gap_ns;
  program.step_ns = program.tail_ns;
  for (const ProgramOp& op : program.ops) program.step_ns += op.gap_ns + op.dur_ns;
  return program;
}

std::vector<ReplayArm> small_arms(const StepProgram& program, int64_t bytes,
                                  const IssueMethod& method) {
  std::vector<ReplayArm> arms(5);
  arms[0].name = "baseline";
  ReplayArm& plan = arms[1];
  plan.name = "prefetch";
  plan.kind = ArmKind::plan;
  plan.method = method;
  plan.cache_peak_bytes = bytes;
  const size_t ops = program.ops.size();
  for (size_t i = 0; i < ops && bytes > 0; ++i) {
    if (!program.ops[i].collective) continue;
    size_t reader = (i + 1) % ops;
    while (program.ops[reader].weights.empty()) reader = (reader + 1) % ops;
    TensorSlice slice = program.ops[reader].weights.front();
    slice.bytes = std::min(slice.bytes, bytes);
    plan.windows.push_back({static_cast<int32_t>(i), {slice}});
    plan.consumers.push_back(static_cast<int32_t>(reader));
    plan.planned_bytes += slice.bytes;
  }
  arms[2] = plan;
  arms[2].name = "null";
  arms[2].kind = ArmKind::null_plan;
  arms[2].planned_bytes = 0;
  for (ArmWindow& window : arms[2].windows) window.slices.clear();
  arms[3] = plan;
  arms[3].name = "useless";
  arms[3].kind = ArmKind::useless;
  arms[4].name = "hot";
  arms[4].kind = ArmKind::hot;
  return arms;
}

}  // namespace preserve::test
