// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/operator_class.h"

#include "common/as_index.h"
#include "db/step/folded_step.h"

namespace preserve {

const char* to_string(OperatorClass operator_class) {
  return std::array{"product", "attention", "small"}.at(static_cast<size_t>(operator_class));
}

std::optional<OperatorClass> operator_class(const FoldedStep& step, const StepOp& op) {
  const bool computes = op.kind == OpKind::compute || op.kind == OpKind::other;
  if (!computes || op.accesses.empty()) return std::nullopt;
  if (op.gemm) return OperatorClass::product;
  double weight_bytes = 0;
  for (const StepAccess& access : op.accesses) {
    if (access.mode != AccessMode::read) continue;
    const TensorRole role = step.tensors[as_index(access.tensor)].role;
    if (role == TensorRole::kv) return OperatorClass::attention;
    if (role == TensorRole::weight) weight_bytes += static_cast<double>(access.bytes);
  }
  return weight_bytes >= static_cast<double>(kLeastProductBytes) ? OperatorClass::product
                                                                 : OperatorClass::small;
}

}  // namespace preserve
