// SPDX-License-Identifier: Apache-2.0
// The shipped models and devices, and workloads of them.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <string>

#include "planner/workload/workload.h"
#include "tests/support/examples.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

inline ModelConfig example_model(const std::string& name) {
  return load_model_config(model_file(name));
}
inline DeviceModel example_device(const std::string& name) {
  return load_device(device_file(name));
}

// On a GPU for which most is known.
inline Workload on_h100(const WorkloadSpec& spec) {
  return generate_workload(spec, example_device("h100-sxm"));
}

// What most configurations say under the same keys.
struct ModelShape {
  int64_t hidden = 0, intermediate = 0, layers = 0, heads = 0, vocabulary = 0, kv_heads = 0;
};

// Of a config.json; those of a shape where it says them, and more.
inline std::string keys_of(const char* type, const ModelShape& shape,
                           const std::string& more = "") {
  std::string keys = fmt::format(R"("model_type": "{}")", type);
  if (shape.hidden != 0) {
    keys +=
        fmt::format(R"(, "hidden_size": {}, "intermediate_size": {}, "num_hidden_layers": {}, )"
                    R"("num_attention_heads": {}, "vocab_size": {})",
                    shape.hidden, shape.intermediate, shape.layers, shape.heads, shape.vocabulary);
  }
  if (shape.kv_heads != 0) keys += fmt::format(R"(, "num_key_value_heads": {})", shape.kv_heads);
  return more.empty() ? keys : keys + ", " + more;
}

// Of a config.json with these keys.
inline ModelConfig model_of(const std::string& keys) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "m.json") << "{" << keys << "}";
  return load_model_config(directory / "m.json");
}

inline const StepOp& op_named(const FoldedStep& step, const std::string& name) {
  const auto found = std::find_if(step.ops.begin(), step.ops.end(),
                                  [&](const StepOp& op) { return op.name == name; });
  if (found == step.ops.end()) throw std::runtime_error("no operator " + name);
  return *found;
}

// MB of a layer's halves as PRESERVE (arXiv 2501.08192, Figure 2) defines them: 8-bit weights and
// KV, batch 8, context 16384, on one device. From the models' published shapes.
struct PaperFootprint {
  const char* model;
  double attention_weights, kv, mlp;
};
inline constexpr PaperFootprint kPaperFootprints[] = {
    {"llama3-8b", 41.9, 268.4, 176.2},   {"phi-3-small", 41.9, 268.4, 176.2},
    {"llama3-70b", 151.0, 268.4, 704.6}, {"qwen2-7b", 29.4, 134.2, 203.7},
    {"qwen2-72b", 151.0, 268.4, 726.7},  {"phi-3-medium", 65.5, 335.5, 275.3}};

inline WorkloadSpec example(const std::string& model, int64_t ranks, int64_t batch, int64_t context,
                            WeightType type = WeightType::fp16) {
  return {.model = example_model(model),
          .ranks = ranks,
          .batch = batch,
          .context = context,
          .type = type};
}

}  // namespace preserve::test
