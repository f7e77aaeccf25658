// SPDX-License-Identifier: Apache-2.0
// The shipped models and devices, and workloads of them.
#pragma once

#include <string>

#include "planner/workload/workload.h"
#include "tests/support/examples.h"

namespace preserve::test {

inline ModelConfig example_model(const std::string& name) {
  return load_model_config(model_file(name));
}
inline DeviceModel example_device(const std::string& name) {
  return load_device(device_file(name));
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
