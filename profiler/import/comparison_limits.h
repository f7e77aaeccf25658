// SPDX-License-Identifier: Apache-2.0
// How much an import compares before it gives up: real inputs stay far below, and a damaged one
// ends. What is given up gets nothing, and a warning says so.
#pragma once

#include <cstdint>

namespace preserve::import {

struct ComparisonLimits {
  // Durations of an inspector log with those of the trace.
  int64_t per_communicator = 500'000'000;
  int64_t per_log = 2'000'000'000;
  // Calls of captures with the graphs that one process ran.
  int64_t captured_calls = 500'000'000;
};

}  // namespace preserve::import
