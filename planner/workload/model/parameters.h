// SPDX-License-Identifier: Apache-2.0
// How large a model is.
#pragma once

#include "planner/workload/model/config.h"

namespace preserve {

// Of the language model, counting tied embeddings once. input_error when they are more than 2^53.
int64_t parameter_count(const ModelConfig& model);
// Numbers in the KV-cache for each token of a sequence that no layer's window has dropped.
int64_t kv_elements_per_token(const ModelConfig& model);

}  // namespace preserve
