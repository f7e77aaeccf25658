// SPDX-License-Identifier: Apache-2.0
// Operands of an imported process -> tables tensor, access and gemm. Runs after finish_steps(),
// because names count within a step: the k-th operator of a kind is the same operator in every
// step, so its weight has the same name in every step and folds.
//
//   shapes    recorded dimensions and element types: confidence 0.8 (0.9 with a module path)
//   inferred  a kernel that is known to stream memory: (duration - launch floor) * share of the
//             device's bandwidth, median over the steps; confidence 0.3. Never for prefill, whose
//             products are bound by arithmetic. Routed experts keep the role unknown.
#pragma once

#include "db/trace_db.h"
#include "profiler/import/process_builder.h"

namespace preserve::import {

struct AccessSummary {
  int64_t from_shapes = 0, inferred = 0, unknown = 0;  // kernels, communication and copies excluded
  // Replayed graphs: with a capture, with several, with none, not compared to the end.
  int64_t joined = 0, ambiguous = 0, apart = 0, too_many = 0;
};

// Consumes process.uses and adds to `summary`. `db` is still producing. Kernels of replays get what
// `captures` say.
void add_access_rows(TraceDb& db, ImportedProcess& process, const GraphCaptures& captures,
                     AccessSummary& summary);

}  // namespace preserve::import
