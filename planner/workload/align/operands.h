// SPDX-License-Identifier: Apache-2.0
// Gives the operators of a recorded step what the model says that they read: weights and KV-cache
// by name, source "model"; shapes of products, sizes of messages and floors where they are unknown.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/workload/align/alignment.h"

namespace preserve::align {

// What was given to an operator of the recorded step. One operator may be given things twice.
struct Given {
  int32_t ordinal = 0;
  bool reads = false;    // accesses of source "model", in place of guessed ones
  bool product = false;  // its shape
  bool message = false;  // of its collective
  bool floor = false;    // floor_ns
};

// `step`, the recorded one of `pair`, is changed. `kv_confidence` is less where the length of the
// context is assumed. An operator whose operands the program itself named keeps them.
std::vector<Given> give_operands(const Pair& pair, const gpu::KernelRules& rules,
                                 double kv_confidence, FoldedStep& step);

// Said by an importer, from shapes or durations, about memory without a name of its own.
bool is_guess(const StepAccess& access);

}  // namespace preserve::align
