// SPDX-License-Identifier: Apache-2.0
// Options that make a step without a recording, for every tool that plans:
//   --model config.json --tp N --batch B --context C --dtype D --kv-dtype D [--allreduce-time T |
//   --collectives LIBRARY]
//   [--engine-overhead F] [--assume llama] [--trace-out FILE] [--print step --format text|csv|json]
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/schedule/device.h"
#include "planner/workload/step_table.h"
#include "planner/workload/workload.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace preserve {

struct WorkloadOptions {
  std::string model;                    // empty: not asked for
  WorkloadSpec spec;                    // but for its model, ranks, batch and contexts
  std::optional<int64_t> ranks, batch;  // as given; by default 1, or what a recording says
  std::string context;                  // as written; empty: the default
  std::string assume;                   // "llama" or empty
  std::string engine_overhead;          // as written; empty: 1
  std::string collectives;              // library of the device file; empty: its first
  std::string trace_out;                // empty: not written
  std::string print;                    // "step" or empty
  TableFormat format = TableFormat::text;
  bool given() const { return !model.empty(); }
};

// Those that say which model a recording is of, for tools that make no step themselves: --model
// (returned), --tp, --batch, --context, --dtype, --kv-dtype, --assume. `options` must outlive the
// parsing.
CLI::Option* add_model_options(CLI::App& app, WorkloadOptions& options, const char* help);
// All of them. `options` must outlive the parsing.
void add_workload_options(CLI::App& app, WorkloadOptions& options);

// Contexts of the sequences of a batch: "4096", "1000,3*8192", or "uniform:1000:8000", which
// spreads `batch` sequences evenly. The number of a list is the batch. usage_error when it is none
// of these.
std::vector<int64_t> parse_contexts(std::string_view text, int64_t batch);

// A factor of at least 1, or the name of an engine: gpt-fast, tensorrt-llm, vllm-2024. usage_error.
double parse_engine_overhead(std::string_view text);

// The spec that the options ask for, its model read; `ranks` and `batch` by default 1.
WorkloadSpec workload_spec(const WorkloadOptions& options);

// Makes the step and, when asked for, writes it as a trace. `force`: replace an existing file.
Workload workload_step(const WorkloadOptions& options, const DeviceModel& device, bool force);

}  // namespace preserve
