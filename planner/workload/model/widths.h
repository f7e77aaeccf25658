// SPDX-License-Identifier: Apache-2.0
// How wide attention and MLP of each layer are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/workload/model/config_reader.h"
#include "planner/workload/model/families.h"

namespace preserve {

struct HeadCounts {
  int64_t head_dim = 0;            // 0 with a latent, or without attention
  std::vector<int64_t> queries{};  // per layer
  std::vector<int64_t> keys{};     // per layer; 0: it has no attention
};
HeadCounts read_heads(const ConfigReader& keys, const Family& family, int64_t hidden, size_t layers,
                      std::vector<std::string>& warnings);

// Columns of the MLP of each layer; 0: it has none.
std::vector<int64_t> read_mlp_columns(const ConfigReader& keys, const Family& family,
                                      int64_t hidden, size_t layers,
                                      std::vector<std::string>& warnings);

}  // namespace preserve
