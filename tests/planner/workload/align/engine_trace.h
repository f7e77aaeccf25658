// SPDX-License-Identifier: Apache-2.0
// The recording that an engine's GPU kernels would leave of a generated step: kernels under names
// as engines have them, no bytes, no shapes unless asked for. Deterministic.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "db/trace_db.h"
#include "planner/workload/workload.h"

namespace preserve::test {

struct EngineTrace {
  int ranks_recorded = 1;  // processes, all alike
  int steps = 3;
  bool split_qkv = false;  // a product for each matrix
  bool split_gate_up = false;
  bool two_attention = false;               // attention in two kernels
  bool fused_experts = false;               // both products of the routed experts in one kernel
  bool fused_norms = false;                 // norms run within other kernels
  bool extra_kernels = false;               // small helpers, and a product now and then
  bool no_head = false;                     // the head is not part of the step
  int drafts_before = 0, drafts_after = 0;  // one layer and the head, each time
  bool shapes = false;                      // of products
  bool messages = false;                    // bytes and ranks of collectives
  double noise = 0.1;                       // of each duration, up or down
  double slowness = 1.3;                    // durations over the generated ones
  std::string step_range{};                 // annotation of a step, empty: none
  StepPhase phase = StepPhase::decode;
};

// Writes a finished trace.db at `path`. `tweak` runs before finish().
void write_engine_trace(const std::filesystem::path& path, const Workload& workload,
                        const EngineTrace& engine, const std::function<void(TraceDb&)>& tweak = {});

}  // namespace preserve::test
