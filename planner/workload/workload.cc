// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/workload.h"

#include <cmath>

#include "common/error.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/workload/model/parameters.h"
#include "planner/workload/operator_times.h"
#include "planner/workload/step_writer.h"

namespace preserve {
namespace {

constexpr int64_t kMostRanks = 1 << 10;
constexpr int64_t kMostBatch = 1 << 20;
constexpr int64_t kMostContext = 1 << 27;
constexpr double kMostOverhead = 100;
// Of the parameters counted, against the index of the weights.
constexpr double kIndexTolerance = 0.01;

void check_range(const char* option, int64_t value, int64_t most) {
  if (value >= 1 && value <= most) return;
  throw usage_error("invalid {} {}: expected 1 to {}", option, value, most);
}

void check_spec(const WorkloadSpec& spec) {
  check_range("--tp", spec.ranks, kMostRanks);
  check_range("--batch", spec.batch, kMostBatch);
  check_range("--context", spec.new_tokens, kMostContext);
  check_range("--context", spec.context, kMostContext);
  for (const int64_t context : spec.contexts) check_range("--context", context, kMostContext);
  if (!spec.contexts.empty() && spec.contexts.size() != static_cast<size_t>(spec.batch)) {
    throw usage_error("--context names {} sequences, --batch {}", spec.contexts.size(), spec.batch);
  }
  if (spec.allreduce_ns.value_or(0) < 0) throw usage_error("--allreduce-time: negative");
  if (!(spec.engine_overhead >= 1 && spec.engine_overhead <= kMostOverhead)) {
    throw usage_error("invalid --engine-overhead {}: expected 1 to {}", spec.engine_overhead,
                      kMostOverhead);
  }
}

// Several layers may be uneven; the first one is named.
void doubt_uneven_heads(const WorkloadSpec& spec, std::vector<std::string>& warnings) {
  for (const LayerShape& layer : spec.model.layers) {
    const int64_t kv_heads = layer.attention ? layer.attention->kv_heads : 0;
    if (kv_heads == 0 || kv_heads % spec.ranks == 0 || spec.ranks % kv_heads == 0) continue;
    return warnings.push_back(fmt::format(
        "{} ranks do not divide the {} key-value heads of {}: planned for a rank with {} of them",
        spec.ranks, kv_heads, spec.model.name, (kv_heads + spec.ranks - 1) / spec.ranks));
  }
}

void doubt_index(const ModelConfig& model, int64_t parameters, std::vector<std::string>& warnings) {
  if (!model.indexed_parameters) return;
  const double ratio =
      static_cast<double>(parameters) / static_cast<double>(*model.indexed_parameters);
  if (std::fabs(ratio - 1) <= kIndexTolerance) return;
  warnings.push_back(fmt::format(
      "{} has {} parameters as read from its configuration, the safetensors index beside it {}: "
      "{:+.1f} % (parts that decode no text are not counted)",
      model.name, parameters, *model.indexed_parameters, 100 * (ratio - 1)));
}

std::string describe_types(const WorkloadSpec& spec) {
  const ModelConfig& model = spec.model;
  if (spec.type) {
    return fmt::format("{}, KV {}", to_string(*spec.type), to_string(kv_type_of(spec)));
  }
  const char* kv = to_string(kv_type_of(spec));
  const bool uniform =
      model.attention_weights == model.mlp_weights && model.mlp_weights == model.expert_weights;
  if (uniform) return fmt::format("{}, KV {}", to_string(model.mlp_weights.type), kv);
  return fmt::format("attention {}, MLP {}, experts {}, KV {}",
                     to_string(model.attention_weights.type), to_string(model.mlp_weights.type),
                     to_string(model.expert_weights.type), kv);
}

std::string summarise(const WorkloadSpec& spec, const Workload& workload, int64_t parameters,
                      const OperatorTimes& times) {
  const WorkloadBytes& bytes = workload.bytes;
  const int64_t elements = kv_elements_per_token(spec.model);
  std::string text = fmt::format(
      "{} ({}): {} parameters ({:.4g} G), {} bytes of KV per token; {}\n", spec.model.name,
      spec.model.model_type, parameters, static_cast<double>(parameters) / 1e9,
      NumberFormat(kv_type_of(spec)).bytes(elements), describe_types(spec));
  if (spec.model.indexed_parameters) {
    text += fmt::format("safetensors index: {} parameters\n", *spec.model.indexed_parameters);
  }
  text += fmt::format("one of {}: weights {}, embedding and head {}, KV {}{}\n",
                      count_of(spec.ranks, "rank"), format_size(bytes.weights),
                      format_size(bytes.head + bytes.embedding), format_size(bytes.kv),
                      bytes.state > 0 ? fmt::format(", state {}", format_size(bytes.state)) : "");
  text += fmt::format(
      "step {}: one token of each of {} (time per output token, without the first), engine "
      "overhead {:g}\n",
      format_duration(workload.step.wall_ns), count_of(spec.batch, "sequence"),
      spec.engine_overhead);
  text += fmt::format("times from {}\n",
                      times.sources().empty()
                          ? "the roofline alone"
                          : fmt::format("{}; else roofline", fmt::join(times.sources(), "; ")));
  return text;
}

}  // namespace

WeightType kv_type_of(const WorkloadSpec& spec) {
  if (spec.kv_type) return *spec.kv_type;
  const WeightType type = spec.type.value_or(spec.model.kv_type);
  if (type == WeightType::int4) return WeightType::fp16;
  return type == WeightType::fp4 ? WeightType::fp8 : type;
}

std::string undivided(const ModelConfig& model, int64_t ranks) {
  std::string reason;
  const auto divides = [&](const char* what, int64_t count) {
    if (count % ranks == 0 || !reason.empty()) return;
    reason =
        fmt::format("--tp: {} ranks do not divide the {} {} of {}", ranks, count, what, model.name);
  };
  for (const LayerShape& layer : model.layers) {
    if (layer.attention) divides("attention heads", layer.attention->heads);
    if (layer.mixer) divides("columns of a layer without attention", layer.mixer->out_columns);
    if (layer.mlp) divides("MLP columns", layer.mlp->columns);
    if (layer.experts) {
      divides("columns of an expert", layer.experts->columns);
      divides("columns of the shared experts", layer.experts->shared_columns);
    }
  }
  return reason;
}

int64_t read_bytes(const StepOp& op) {
  int64_t bytes = 0;
  for (const StepAccess& access : op.accesses) {
    if (access.mode == AccessMode::read) bytes += access.bytes;
  }
  return bytes;
}

Workload generate_workload(const WorkloadSpec& spec, const DeviceModel& device) {
  check_spec(spec);
  if (const std::string uneven = undivided(spec.model, spec.ranks); !uneven.empty()) {
    throw not_applicable_error("{}", uneven);
  }
  const int64_t parameters = parameter_count(spec.model);
  WorkloadSpec whole = spec;
  if (whole.contexts.empty()) whole.contexts.assign(static_cast<size_t>(spec.batch), spec.context);
  OperatorTimes times(device);
  const std::string types = describe_types(spec);
  const auto check_fits = [&](const WorkloadBytes& bytes) {
    if (device.memory_bytes == 0 || bytes.total <= device.memory_bytes) return;
    throw not_applicable_error(
        "{} with --tp {}, batch {} and context {} in {} needs {} per rank, {} has {}: use "
        "more ranks, or a smaller batch, context or type",
        spec.model.name, spec.ranks, spec.batch, spec.context, types, format_size(bytes.total),
        device.name, format_size(device.memory_bytes));
  };
  Workload workload;
  try {
    workload = write_step(whole, times);
  } catch (const Error&) {
    // A time is missing. Of a model that does not fit, that is not what matters.
    whole.allreduce_ns = 1;
    check_fits(write_step(whole, times).bytes);
    throw;
  }
  check_fits(workload.bytes);
  FoldedStep& step = workload.step;
  step.trace_file =
      fmt::format("model {} --tp {} --batch {} --context {} ({})", spec.model.name, spec.ranks,
                  spec.batch, spec.contexts.empty() ? std::to_string(spec.context) : "list", types);
  std::vector<std::string> warnings = spec.model.warnings;
  warnings.insert(warnings.end(), times.warnings().begin(), times.warnings().end());
  step.warnings.insert(step.warnings.begin(), warnings.begin(), warnings.end());
  doubt_uneven_heads(spec, step.warnings);
  doubt_index(spec.model, parameters, step.warnings);
  if (device.memory_bytes == 0) {
    step.warnings.push_back(
        fmt::format("{} does not state its memory: whether {} per rank fit is unknown", device.name,
                    format_size(workload.bytes.total)));
  }
  workload.summary = summarise(spec, workload, parameters, times);
  return workload;
}

}  // namespace preserve
