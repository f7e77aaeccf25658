// SPDX-License-Identifier: Apache-2.0
// The cells as CSV and JSON, by id, one at a time from the database: equal for equal sweeps whoever
// evaluated them in whatever order.
#pragma once

#include <functional>
#include <string_view>

#include "common/output_file.h"
#include "db/trace_db.h"

namespace preserve {

using TextSink = std::function<void(std::string_view)>;

// The columns of explore_cell, then speedup_bfs, speedup_flow, speedup_fused (baseline over them),
// tokens_per_s and tokens_per_s_flow (of all sequences). Missing values are empty.
void write_explore_csv(const TraceDb& db, const TextSink& sink);
// "schema": "preserve/explore": sheets and cells, with the same names; docs/formats.md.
void write_explore_json(const TraceDb& db, const TextSink& sink);

// Writes the whole output and commits it. input_error when it cannot be written.
void write_output(OutputFile& output, const std::function<void(const TextSink&)>& write);

}  // namespace preserve
