// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/workload_options.h"

#include <CLI/CLI.hpp>
#include <optional>

#include "common/cli_options.h"
#include "common/error.h"
#include "common/output_file.h"
#include "planner/workload/workload_trace.h"

namespace preserve {

void add_workload_options(CLI::App& app, WorkloadOptions& options) {
  const std::string group = "Without a recording";
  WorkloadSpec& spec = options.spec;
  CLI::Option* model =
      app.add_option(
             "--model", options.model,
             "Plan a decode step made from this Hugging Face config.json instead of a trace; or a "
             "name from examples/models")
          ->transform(as_shipped_file("models"))
          ->type_name("FILE|NAME")
          ->group(group);
  app.add_option("--tp", spec.ranks, "Tensor-parallel ranks")
      ->type_name("N")
      ->capture_default_str()
      ->group(group)
      ->needs(model);
  app.add_option("--batch", spec.batch, "Sequences decoded together")
      ->type_name("N")
      ->capture_default_str()
      ->group(group)
      ->needs(model);
  app.add_option("--context", spec.context, "Tokens per sequence in the KV-cache, as 8K")
      ->transform(as_count(int64_t{1} << 27))
      ->type_name("N")
      ->capture_default_str()
      ->group(group)
      ->needs(model);
  app.add_option("--dtype", spec.type, "Weights and KV-cache")
      ->transform(as_choice({WeightType::fp16, WeightType::int8, WeightType::fp8},
                            {{"bf16", WeightType::fp16}}))
      ->type_name("WORD")
      ->capture_default_str()
      ->group(group)
      ->needs(model);
  app.add_option("--allreduce-time", spec.allreduce_ns,
                 "Length of every collective, as in 20us, instead of the device file's fit")
      ->transform(as_duration_ns())
      ->type_name("TIME")
      ->group(group)
      ->needs(model);
  app.add_option("--trace-out", options.trace_out,
                 "Also write the step as a trace (source 'model')")
      ->type_name("FILE")
      ->group(group)
      ->needs(model);
}

FoldedStep workload_step(const WorkloadOptions& options, const DeviceModel& device, bool force) {
  if (options.trace_out == "-") {
    throw usage_error("--trace-out: a trace is a database and cannot go to standard output");
  }
  std::optional<OutputFile> trace;  // refuses an unwritable path before any work
  if (!options.trace_out.empty()) trace.emplace(options.trace_out, force);
  WorkloadSpec spec = options.spec;
  spec.model = load_model_config(options.model);
  FoldedStep step = make_workload(spec, device);
  if (trace) {
    write_workload_trace(step, device, trace->temporary_path());
    trace->commit();
  }
  return step;
}

}  // namespace preserve
