// SPDX-License-Identifier: Apache-2.0
// quantization_config: which numbers are stored how.
#pragma once

#include "planner/workload/model/config.h"
#include "planner/workload/model/config_reader.h"

namespace preserve {

// nullptr: the numbers are not quantised.
const nlohmann::json* find_quantization(const ConfigReader& keys);

// Sets the number formats of `model`, whose layers are known. Throws input_error naming the key for
// a method or a mixture of formats that is not understood.
void read_quantization(const ConfigReader& keys, ModelConfig& model);

}  // namespace preserve
