// SPDX-License-Identifier: Apache-2.0
// The shape of a layer that keeps a state instead of a KV-cache.
#pragma once

#include "planner/workload/model/config.h"
#include "planner/workload/model/config_reader.h"
#include "planner/workload/model/families.h"

namespace preserve {

// What the family's mixer is: `heads` and `head_dim` are those of attention, 0 where the model has
// none. input_error naming the key that is missing.
MixerShape read_mixer(const ConfigReader& keys, const Family& family, int64_t hidden, int64_t heads,
                      int64_t head_dim);

}  // namespace preserve
