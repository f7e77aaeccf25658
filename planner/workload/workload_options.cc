// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/workload_options.h"

#include <CLI/CLI.hpp>
#include <array>

#include "common/cli.h"
#include "common/cli_options.h"
#include "common/error.h"
#include "common/number.h"
#include "common/output_file.h"
#include "common/split.h"
#include "common/text.h"
#include "planner/workload/workload_trace.h"

namespace preserve {
namespace {

constexpr int64_t kMostBatch = 1 << 20;

// Measured steps over the sums of their operators; docs/model-steps.md lists them.
struct EngineOverhead {
  std::string_view engine;
  double factor;
};
constexpr std::array kEngineOverheads{EngineOverhead{"gpt-fast", 1.0},
                                      EngineOverhead{"tensorrt-llm", 1.25},
                                      EngineOverhead{"vllm-2024", 1.4}};

Error invalid_contexts(std::string_view text) {
  return usage_error(
      "invalid --context {}: expected tokens (4096 or 4K), a list with one entry per sequence "
      "(1000,3*8192), or uniform:LEAST:MOST",
      printable(std::string(text)));
}

std::vector<int64_t> spread(int64_t least, int64_t most, int64_t batch) {
  std::vector<int64_t> contexts;
  for (int64_t i = 0; i < batch; ++i) {
    const double middle = (static_cast<double>(i) + 0.5) / static_cast<double>(batch);
    contexts.push_back(least + static_cast<int64_t>(middle * static_cast<double>(most - least)));
  }
  return contexts;
}

}  // namespace

std::vector<int64_t> parse_contexts(std::string_view text, int64_t batch) {
  constexpr std::string_view kUniform = "uniform:";
  if (text.starts_with(kUniform)) {
    const std::string_view range = text.substr(kUniform.size());
    const size_t colon = range.find(':');
    if (colon == std::string_view::npos) throw invalid_contexts(text);
    const auto least = parse_count(range.substr(0, colon)),
               most = parse_count(range.substr(colon + 1));
    if (!least || !most || *least > *most || batch > kMostBatch) throw invalid_contexts(text);
    return spread(*least, *most, batch);
  }
  std::vector<int64_t> contexts;
  for (std::string_view item : split(text, ',')) {
    int64_t times = 1;
    if (const size_t star = item.find('*'); star != std::string_view::npos) {
      times = parse_count(item.substr(0, star)).value_or(0);
      item.remove_prefix(star + 1);
    }
    const auto context = parse_count(item);
    if (!context || times < 1 || times > kMostBatch - static_cast<int64_t>(contexts.size())) {
      throw invalid_contexts(text);
    }
    contexts.insert(contexts.end(), static_cast<size_t>(times), *context);
  }
  return contexts;
}

double parse_engine_overhead(std::string_view text) {
  for (const EngineOverhead& preset : kEngineOverheads) {
    if (preset.engine == text) return preset.factor;
  }
  if (const auto factor = number_of<double>(text); factor && *factor >= 1) return *factor;
  throw usage_error(
      "invalid --engine-overhead {}: expected a factor of at least 1, or gpt-fast, tensorrt-llm, "
      "vllm-2024",
      printable(std::string(text)));
}

namespace {

constexpr const char* kGroup = "From a model";

template <typename Value>
CLI::Option* add(CLI::App& app, CLI::Option* model, const char* name, Value& variable,
                 const char* help, const char* type) {
  return app.add_option(name, variable, help)->type_name(type)->group(kGroup)->needs(model);
}

}  // namespace

CLI::Option* add_model_options(CLI::App& app, WorkloadOptions& options, const char* help) {
  WorkloadSpec& spec = options.spec;
  CLI::Option* model = app.add_option("--model", options.model, help)
                           ->transform(as_shipped_file("models"))
                           ->type_name("FILE|NAME")
                           ->group(kGroup);
  add(app, model, "--tp", options.ranks, "Tensor-parallel ranks; 1: the step without a plan", "N")
      ->default_str("as recorded, else 1");
  add(app, model, "--batch", options.batch, "Sequences decoded together", "N")
      ->default_str("as recorded, else 1");
  add(app, model, "--context", options.context,
      "Tokens per sequence in the KV-cache, as 8K: one number, one for each sequence "
      "(1000,3*8192), or uniform:LEAST:MOST",
      "N")
      ->default_str(std::to_string(spec.context));
  add(app, model, "--dtype", spec.type,
      "Weights of the layers, and KV-cache (default: as the file says)", "WORD")
      ->transform(as_choice(kWeightTypes, {{"bf16", WeightType::fp16}}));
  add(app, model, "--kv-dtype", spec.kv_type, "KV-cache (default: --dtype, or as the file says)",
      "WORD")
      ->transform(as_choice({WeightType::fp16, WeightType::int8, WeightType::fp8, WeightType::fp4},
                            {{"bf16", WeightType::fp16}}));
  add(app, model, "--assume", options.assume,
      "llama: plan a model_type that is not known as Llama's", "WORD")
      ->check(CLI::IsMember({"llama"}));
  return model;
}

void add_workload_options(CLI::App& app, WorkloadOptions& options) {
  WorkloadSpec& spec = options.spec;
  CLI::Option* model =
      add_model_options(app, options,
                        "Plan a decode step made from this Hugging Face config.json instead of a "
                        "trace, or give the kernels of the trace the weights and KV of this model; "
                        "or a name from examples/models");
  CLI::Option* allreduce =
      add(app, model, "--allreduce-time", spec.allreduce_ns,
          "Length of every collective, as in 20us, instead of the device file's fit", "TIME")
          ->transform(as_duration_ns());
  add(app, model, "--collectives", options.collectives,
      "Library whose collectives of the device file are taken, as custom (inside CUDA graphs), "
      "custom-eager (launched by the host) or nccl [the first of the file]",
      "LIBRARY")
      ->excludes(allreduce);
  add(app, model, "--engine-overhead", options.engine_overhead,
      "Step time over the time of its operators: 1.25, or gpt-fast (1), tensorrt-llm (1.25), "
      "vllm-2024 (1.4)",
      "FACTOR")
      ->default_str("1");
  CLI::Option* print = add(app, model, "--print", options.print,
                           "step: print its operators instead of planning", "WORD")
                           ->check(CLI::IsMember({"step"}));
  app.add_option("--format", options.format, "Of --print: text, csv or json")
      ->transform(as_choice({TableFormat::text, TableFormat::csv, TableFormat::json}))
      ->type_name("WORD")
      ->capture_default_str()
      ->group(kGroup)
      ->needs(print);
  add(app, model, "--trace-out", options.trace_out,
      "Also write the step as a trace (source 'model'); with a trace, its copy with what the model "
      "says (default: beside it, TRACE-model.db)",
      "FILE");
}

WorkloadSpec workload_spec(const WorkloadOptions& options) {
  WorkloadSpec spec = options.spec;
  spec.ranks = options.ranks.value_or(1);
  spec.batch = options.batch.value_or(1);
  if (!options.engine_overhead.empty()) {
    spec.engine_overhead = parse_engine_overhead(options.engine_overhead);
  }
  if (!options.context.empty()) {
    spec.contexts = parse_contexts(options.context, spec.batch);
    if (spec.contexts.size() == 1) {
      spec.context = spec.contexts.front();
      spec.contexts.clear();
    } else if (spec.batch == 1) {
      spec.batch = static_cast<int64_t>(spec.contexts.size());
    }
  }
  spec.model = load_model_config(options.model, options.assume == "llama");
  return spec;
}

Workload workload_step(const WorkloadOptions& options, const DeviceModel& device, bool force) {
  require_file(options.trace_out, "--trace-out: a trace");
  std::optional<OutputFile> trace;  // refuses an unwritable path before any work
  if (!options.trace_out.empty()) trace.emplace(options.trace_out, force);
  Workload workload = generate_workload(workload_spec(options), device);
  if (trace) {
    write_workload_trace(workload.step, device, trace->temporary_path());
    trace->commit();
  }
  return workload;
}

}  // namespace preserve
