// SPDX-License-Identifier: Apache-2.0
// A step small enough to be looked at: qkv, attention (reads KV), allreduce, mlp, allreduce.
#pragma once

#include "replay/step/program.h"

namespace preserve::test {

struct SmallProgram {
  int64_t weight_bytes = 1 << 20, kv_bytes = 256 << 10;
  int64_t op_ns = 20'000, collective_ns = 10'000, gap_ns = 1'000;
  int64_t message_bytes = 16384;
  int layers = 1;
};

StepProgram small_program(const SmallProgram& spec = {});

// Baseline, prefetch, null, useless, hot: each collective fetches the first `bytes` of the weights
// that are read next; the last one those of the next step.
std::vector<ReplayArm> small_arms(const StepProgram& program, int64_t bytes,
                                  const IssueMethod& method = {"bulk_l2", "spare", 4096, 16,
                                                               "normal", "before"});

}  // namespace preserve::test
