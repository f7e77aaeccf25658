// SPDX-License-Identifier: Apache-2.0
// Is a recorded step one of this model? By what of both sides stayed over, by recorded shapes, and
// by the speed at which kernels would have to read.
#pragma once

#include <cstdint>
#include <string>

#include "planner/workload/align/alignment.h"

namespace preserve::align {

struct Fit {
  double reading_ns = 0, matched_ns = 0;  // of the recorded products, experts and attention
  double operators = 0, matched = 0;      // of the model that read much, the head not counted
  int64_t shapes = 0, agreeing = 0;       // products with a recorded shape; agreeing within 2 %
  bool head = true;                       // the step ends with the head
  int64_t drafts = 0;                     // products and attention of another model around it,
  double draft_ns = 0;                    // which count in none of the above
  std::string disagreement;               // the first one; empty: it fits
};

// `memory_bytes_per_s`: of the fastest device that the recording may be of.
Fit judge(const Pair& pair, double memory_bytes_per_s, int64_t cache_bytes);

}  // namespace preserve::align
