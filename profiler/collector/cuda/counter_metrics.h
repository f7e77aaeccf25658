// SPDX-License-Identifier: Apache-2.0
// Which of CUPTI's metrics give the counters of one chip in a single pass, and their values. Only
// CUPTI's host functions: works for any chip, without a GPU.
//
// Metrics are tried one after the other, each time in a fresh host object, since a metric that a
// chip does not have spoils the object it was added to. What would need a second pass (a replay of
// the kernel) is left out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/no_copy.h"
#include "profiler/collector/cuda/cupti_api.h"
#include "profiler/cuda_records.h"

namespace preserve::cuda {

class CounterMetrics : NoCopy {
 public:
  explicit CounterMetrics(const CuptiApi& api) : api_(api) {}
  ~CounterMetrics() { close(); }

  // `counters`: wanted, bit i is kCounterNames[i]; `availability`: of the device, may be nullptr.
  // An error when none of them can be had, or when CUPTI fails.
  CUptiResult open(const char* chip, const uint8_t* availability, uint32_t counters);
  void close();

  uint32_t counters() const { return counters_; }  // those that are read
  const char** names() { return names_; }
  size_t count() const { return count_; }
  const uint8_t* config() const { return config_; }
  size_t config_bytes() const { return config_bytes_; }

  // Counters of one range of a decoded image; -1 for those that are not read.
  CUptiResult evaluate(const uint8_t* image, size_t image_bytes, size_t range,
                       double (&values)[kCounters]) const;

 private:
  CUptiResult build(const char* chip, const uint8_t* availability, size_t count, size_t& passes);

  const CuptiApi& api_;
  CUpti_Profiler_Host_Object* host_ = nullptr;
  const char* names_[kCounters] = {};
  double unit_bytes_[kCounters] = {};
  size_t counter_of_[kCounters] = {};  // index of kCounterNames
  size_t count_ = 0;
  uint32_t counters_ = 0;
  uint8_t* config_ = nullptr;
  size_t config_bytes_ = 0;
};

}  // namespace preserve::cuda
