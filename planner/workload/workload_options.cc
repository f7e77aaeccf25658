// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/workload_options.h"

#include <CLI/CLI.hpp>
#include <optional>

#include "common/error.h"
#include "common/output_file.h"
#include "common/units.h"
#include "planner/workload/workload_trace.h"

namespace preserve {

void add_workload_options(CLI::App& app, WorkloadOptions& options) {
  const std::string group = "Without a recording";
  CLI::Option* model =
      app.add_option(
             "--model", options.model,
             "Plan a decode step made from this Hugging Face config.json instead of a trace")
          ->group(group);
  app.add_option("--tp", options.ranks, "Tensor-parallel ranks (default 1)")
      ->group(group)
      ->needs(model);
  app.add_option("--batch", options.batch, "Sequences decoded together (default 1)")
      ->group(group)
      ->needs(model);
  app.add_option("--context", options.context, "Tokens per sequence in the KV-cache (default 4096)")
      ->group(group)
      ->needs(model);
  app.add_option("--dtype", options.type, "Weights and KV-cache: fp16, int8 or fp8 (default fp16)")
      ->group(group)
      ->needs(model);
  app.add_option("--allreduce-time", options.allreduce_time,
                 "Length of every collective, as in 20us, instead of the device file's fit")
      ->group(group)
      ->needs(model);
  app.add_option("--trace-out", options.trace_out,
                 "Also write the step as a trace (source 'model')")
      ->group(group)
      ->needs(model);
}

WorkloadSpec workload_spec(const WorkloadOptions& options) {
  WorkloadSpec spec;
  spec.model = load_model_config(options.model);
  spec.ranks = options.ranks;
  spec.batch = options.batch;
  spec.context = options.context;
  spec.type = weight_type_from_text(options.type);
  if (!options.allreduce_time.empty()) {
    spec.allreduce_ns = parse_duration_ns(options.allreduce_time);
  }
  return spec;
}

FoldedStep workload_step(const WorkloadOptions& options, const DeviceModel& device, bool force) {
  if (options.trace_out == "-") {
    throw usage_error("--trace-out: a trace is a database and cannot go to standard output");
  }
  std::optional<OutputFile> trace;  // refuses an unwritable path before any work
  if (!options.trace_out.empty()) trace.emplace(options.trace_out, force);
  FoldedStep step = make_workload(workload_spec(options), device);
  if (trace) {
    write_workload_trace(step, device, trace->temporary_path());
    trace->commit();
  }
  return step;
}

}  // namespace preserve
