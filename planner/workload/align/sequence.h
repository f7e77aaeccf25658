// SPDX-License-Identifier: Apache-2.0
// What is compared when a recorded step is aligned with the step of a model: the operators that
// read weights or KV, and those that mark the place in a layer. What a kernel is comes from the
// kernel rules; sizes from the shapes that the recording has, else from durations.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "db/step/folded_step.h"
#include "planner/workload/workload.h"
#include "profiler/gpu/kernel_rules.h"

namespace preserve::align {

// unknown: no rule names the kernel, and it lasts long enough to be any of the others.
enum class Kind { product, experts, attention, collective, norm, unknown };

// Do its bytes matter? Norms and collectives mark the place alone.
inline bool reads_much(Kind kind) {
  return kind == Kind::product || kind == Kind::experts || kind == Kind::attention;
}

struct Recorded {
  int32_t ordinal = 0;  // in the recorded step
  Kind kind = Kind::unknown;
  double dur_ns = 0;
  std::optional<int64_t> elements{};  // of the weights of a product with recorded shape
};

// A part of a generated operator: the finest unit that engines run as a kernel of its own.
struct Modelled {
  int32_t ordinal = 0;  // in the generated step
  Kind kind = Kind::unknown;
  double dur_ns = 0;
  int64_t elements = 0;                 // of the part's weights; 0: no product
  int64_t offset_bytes = 0, bytes = 0;  // of the tensor that the operator reads
  int32_t part = 0, parts = 1;          // position in the operator
  int32_t role = 0;                     // the same for this operator in every layer
};

std::vector<Recorded> recorded_sequence(const FoldedStep& step, const gpu::KernelRules& rules);

// In each order that engines run them in: shared experts come after the routed ones, or before.
std::vector<std::vector<Modelled>> modelled_sequences(const Workload& workload);

}  // namespace preserve::align
