// SPDX-License-Identifier: Apache-2.0
// A schedule made without the planner, so that replay's tests stand on their own: each collective
// fetches the head of the weights that are read before the next one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "planner/schedule/schedule.h"

namespace preserve::test {

struct SimplePlan {
  int64_t bytes_per_window = 256 << 10;  // 0: do nothing
  int64_t link_latency_ns = 0;
  std::string method = "load";
  std::string placement = "consumer";
  int64_t chunk_bytes = 4096;
  int64_t budget_bytes = 8 << 20;
  bool wrap = false;  // the last collective fetches for the first operators of the next step
};

Schedule simple_schedule(const std::filesystem::path& trace, const SimplePlan& spec = {});

// The same, written to `path`.
void write_simple_schedule(const std::filesystem::path& path, const std::filesystem::path& trace,
                           const SimplePlan& spec = {});

}  // namespace preserve::test
