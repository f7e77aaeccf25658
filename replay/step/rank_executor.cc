// SPDX-License-Identifier: Apache-2.0
#include "replay/step/rank_executor.h"

#include <utility>

namespace preserve {

RankExecutor::RankExecutor(const Ranks& ranks, StepProgram program,
                           const std::vector<ReplayArm>& arms)
    : ranks_(ranks), program_(std::move(program)), last_steps_(arms.size()) {
  for (const ReplayArm& arm : arms) names_.push_back(arm.name);
}

void RankExecutor::remember(size_t arm, std::vector<float> op_ns, int64_t fetched_bytes,
                            std::vector<OpInterval> last_step) {
  op_ns_.push_back(std::move(op_ns));
  fetched_bytes_.push_back(fetched_bytes);
  last_steps_[arm] = std::move(last_step);
}

}  // namespace preserve
