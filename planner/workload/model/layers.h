// SPDX-License-Identifier: Apache-2.0
// Which kind each layer of a model is: what it mixes tokens with, how far back its attention reads,
// whether its MLP routes. Models state it by lists, patterns, periods or ranges.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/workload/model/config_reader.h"
#include "planner/workload/model/families.h"

namespace preserve {

struct LayerKind {
  bool attention = true, mixer = false;
  bool mlp = true;       // an MLP or experts
  bool experts = false;  // of these, experts
  int64_t window = 0;    // of the attention; 0: the whole context
};

// `count` layers. `routes`: the model has experts.
std::vector<LayerKind> read_layer_kinds(const ConfigReader& keys, const Family& family,
                                        size_t count, bool routes);

}  // namespace preserve
