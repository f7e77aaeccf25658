// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/cell/fused.h"

#include <algorithm>

#include "planner/schedule/collective_time.h"

namespace preserve {
namespace {

constexpr int64_t kPieces[] = {2, 4, 8, 16};

}  // namespace

std::vector<double> fused_savings_ns(const FoldedStep& step, const DeviceModel& device,
                                     std::optional<int64_t> stated_ns) {
  std::vector<double> saved_ns(step.ops.size(), 0);
  const auto floor_ns = static_cast<double>(device.op_floor_ns);
  for (size_t i = 1; i < step.ops.size(); ++i) {
    const StepOp &product = step.ops[i - 1], &allreduce = step.ops[i];
    if (!product.gemm || !allreduce.collective || allreduce.collective->function != "allreduce") {
      continue;
    }
    for (const int64_t pieces : kPieces) {
      const auto count = static_cast<double>(pieces);
      const double multiply_ns = floor_ns + std::max(0.0, product.dur_ns - floor_ns) / count;
      const int64_t bytes = (allreduce.collective->bytes.value_or(0) + pieces - 1) / pieces;
      const double reduce_ns =
          stated_ns ? std::max(floor_ns, allreduce.dur_ns / count)
                    : collective_time(device, "allreduce", step.world_size, bytes).dur_ns;
      const double fused_ns =
          multiply_ns + (count - 1) * std::max(multiply_ns, reduce_ns) + reduce_ns;
      saved_ns[i] = std::max(saved_ns[i], product.dur_ns + allreduce.dur_ns - fused_ns);
    }
  }
  return saved_ns;
}

}  // namespace preserve
