// SPDX-License-Identifier: Apache-2.0
// Die area and cost of a device from its figures, by constants of a file that users can replace:
// examples/area/*.json, each value with its published source. docs/explore.md has the formulas.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace preserve {

struct AreaModel {
  std::string name;
  double sram_mm2_per_mib = 0;           // a cache, overhead included
  double arithmetic_mm2_per_tflops = 0;  // 16-bit, with all that belongs to the cores
  double memory_link_bytes_per_s = 0;    // of one PHY and its controller
  double memory_link_mm2 = 0;
  double network_link_bytes_per_s = 0;  // of one PHY, one direction
  double network_link_mm2 = 0;
  double other_mm2 = 0;  // whatever the rest
  double wafer_cost = 0, wafer_mm2 = 0;
  double defects_per_mm2 = 0;     // yield of a die: exp(-area x defects)
  double memory_cost_per_gb = 0;  // of 1e9 bytes
};

// input_error with file and key.
AreaModel load_area_model(const std::filesystem::path& path);

struct DeviceSize {
  int64_t cache_bytes = 0, memory_bytes = 0;
  double memory_bandwidth_bytes_per_s = 0, fp16_per_s = 0;
  double network_bandwidth_bytes_per_s = 0;  // 0: not known, no links
};
double area_mm2(const AreaModel& model, const DeviceSize& size);
double cost(const AreaModel& model, const DeviceSize& size);  // of die and memory

}  // namespace preserve
