// SPDX-License-Identifier: Apache-2.0
// What a user should know about the recording of a process's GPU activity, next to the numbers in
// the trace: why less was recorded than asked for, what was lost on the way, and where this CUPTI
// is known to be wrong.
#pragma once

#include <string>
#include <vector>

#include "profiler/convert/cuda/run.h"

namespace preserve::cuda {

struct Findings {
  std::vector<std::string> notes{};   // refusals and warnings of CUPTI, each once
  std::vector<std::string> losses{};  // "12 of 340 GPU records without times"
};
Findings find_out(const Run& run);

}  // namespace preserve::cuda
