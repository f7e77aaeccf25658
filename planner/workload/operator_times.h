// SPDX-License-Identifier: Apache-2.0
// How long an operator of a generated step lasts on a device, and where that is known from: a table
// of the device file, else a roofline (the operator floor for launch and ramp, plus the longer of
// bytes / memory bandwidth and arithmetic / peak rate).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "planner/schedule/device.h"
#include "planner/workload/model/config.h"

namespace preserve {

// Of products with weights of this type, in operations per second; 0: the device does not say.
double arithmetic_rate(const DeviceModel& device, WeightType type);

// The device with the collectives of one library alone; an empty name keeps all, of which the first
// counts. input_error naming those that the file has.
DeviceModel with_collectives(DeviceModel device, const std::string& library);

struct TimedOperator {
  double dur_ns = 0;
  double floor_ns = 0;  // with every byte cached: launch and arithmetic; 0: not known
  const char* source = "";
};

class OperatorTimes {
 public:
  // input_error when the device's memory bandwidth or operator floor is impossible.
  explicit OperatorTimes(const DeviceModel& device);

  // Activations (m x k) by weights (n x k), read from memory as `size_bytes`. input_error when the
  // device states no arithmetic rate for the type.
  TimedOperator product(int64_t m, int64_t n, int64_t k, WeightType type, int64_t size_bytes);

  // One layer's attention for `contexts` (tokens read, one per sequence). `width`: numbers per
  // token and KV head, keys and values together; `group`: query heads per KV head.
  TimedOperator attention(const std::vector<int64_t>& contexts, int64_t kv_heads, int64_t width,
                          int64_t group, WeightType kv_type, int64_t size_bytes);

  // A kernel that reads little.
  TimedOperator small(int64_t size_bytes) const;

  // `option_ns`: instead of the device's fit. input_error when the device has no time for it.
  TimedOperator collective(const std::string& function, int64_t ranks, int64_t size_bytes,
                           std::optional<int64_t> option_ns);

  bool has_allgather() const;
  const std::set<std::string>& warnings() const { return warnings_; }
  // One sentence for each table and fit that was used, with its error.
  const std::set<std::string>& sources() const { return sources_; }

 private:
  double arithmetic_ns(double operations, WeightType type) const;
  // The table for `type`, or for the type nearest to it.
  const OperatorTable* table_for(const char* operation, WeightType type) const;
  TimedOperator from_table(const OperatorTable& table, std::array<double, 3> place,
                           int64_t size_bytes, bool same_type);

  const DeviceModel& device_;
  std::set<std::string> warnings_, sources_;
};

}  // namespace preserve
