// SPDX-License-Identifier: Apache-2.0
// The other way of hiding collectives: a matrix product in pieces, the allreduce of each piece
// running during the next one (as fused GEMM + allreduce operators do). A piece of 1/c of the
// product costs the operator floor and 1/c of the rest; its allreduce that of 1/c of the message.
// The number of pieces is the best for each product, so it is never slower than not fusing.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/schedule/device.h"

namespace preserve {

// Per operator of a generated step: ns that fusing it with the product before it saves; 0 for what
// is not an allreduce after a product. `stated_ns`: an allreduce lasts that long whatever its
// size; its pieces then last their share of it, at least the operator floor.
std::vector<double> fused_savings_ns(const FoldedStep& step, const DeviceModel& device,
                                     std::optional<int64_t> stated_ns);

}  // namespace preserve
