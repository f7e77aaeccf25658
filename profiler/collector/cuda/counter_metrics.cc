// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/cuda/counter_metrics.h"

#include <cstdlib>

namespace preserve::cuda {
namespace {

constexpr size_t kMaxConfigBytes = size_t{1} << 20;  // a real one has about 1 KiB
constexpr double kSectorBytes = 32;

struct Metric {
  size_t counter;  // index of kCounterNames
  const char* name;
  double unit_bytes;
};
// In order of preference; the first one that the chip has is taken. GB20x renamed the counters of
// its memory; chips with shared memory (GB10B, GB20B, GA10B) have none.
constexpr Metric kMetrics[] = {
    {0, "dram__bytes_read.sum", 1},
    {0, "dram__bytes_op_read.sum", 1},
    {1, "dram__bytes_write.sum", 1},
    {1, "dram__bytes_op_write.sum", 1},
    {2, "lts__t_sectors_op_read.sum", kSectorBytes},
    {3, "lts__t_sectors_op_write.sum", kSectorBytes},
};

}  // namespace

CUptiResult CounterMetrics::open(const char* chip, const uint8_t* availability, uint32_t counters) {
  close();
  CUptiResult refusal = CUPTI_ERROR_NOT_SUPPORTED;
  for (const Metric& metric : kMetrics) {
    const uint32_t bit = 1u << metric.counter;
    if ((counters & bit) == 0 || (counters_ & bit) != 0) continue;
    names_[count_] = metric.name;
    size_t passes = 0;
    const CUptiResult result = build(chip, availability, count_ + 1, passes);
    if (result != CUPTI_SUCCESS) refusal = result;
    if (result != CUPTI_SUCCESS || passes != 1) continue;
    unit_bytes_[count_] = metric.unit_bytes;
    counter_of_[count_] = metric.counter;
    counters_ |= bit;
    ++count_;
  }
  if (count_ == 0) {
    close();
    return refusal;
  }
  size_t passes = 0;  // the object may hold one metric too many: once more, for good
  const CUptiResult result = build(chip, availability, count_, passes);
  if (result != CUPTI_SUCCESS || passes != 1) {
    close();
    return result != CUPTI_SUCCESS ? result : CUPTI_ERROR_NOT_SUPPORTED;
  }
  return CUPTI_SUCCESS;
}

void CounterMetrics::close() {
  if (host_ != nullptr) {
    auto params = PRESERVE_CUPTI_PARAMS(Profiler_Host_Deinitialize);
    params.pHostObject = host_;
    (void)api_.host_deinitialize(&params);
    host_ = nullptr;
  }
  std::free(config_);
  config_ = nullptr;
  config_bytes_ = count_ = 0;
  counters_ = 0;
}

// A host object and the configuration for the first `count` names.
CUptiResult CounterMetrics::build(const char* chip, const uint8_t* availability, size_t count,
                                  size_t& passes) {
  const size_t kept_count = count_;
  const uint32_t kept_counters = counters_;
  close();
  count_ = kept_count;
  counters_ = kept_counters;
  auto start = PRESERVE_CUPTI_PARAMS(Profiler_Host_Initialize);
  start.profilerType = CUPTI_PROFILER_TYPE_RANGE_PROFILER;
  start.pChipName = chip;
  start.pCounterAvailabilityImage = availability;
  CUptiResult result = api_.host_initialize(&start);
  if (result != CUPTI_SUCCESS) return result;
  host_ = start.pHostObject;
  auto add = PRESERVE_CUPTI_PARAMS(Profiler_Host_ConfigAddMetrics);
  add.pHostObject = host_;
  add.ppMetricNames = names_;
  add.numMetrics = count;
  if ((result = api_.host_add_metrics(&add)) != CUPTI_SUCCESS) return result;
  auto size = PRESERVE_CUPTI_PARAMS(Profiler_Host_GetConfigImageSize);
  size.pHostObject = host_;
  if ((result = api_.host_config_size(&size)) != CUPTI_SUCCESS) return result;
  if (size.configImageSize == 0 || size.configImageSize > kMaxConfigBytes)
    return CUPTI_ERROR_OUT_OF_MEMORY;
  config_ = static_cast<uint8_t*>(std::calloc(1, size.configImageSize));
  if (config_ == nullptr) return CUPTI_ERROR_OUT_OF_MEMORY;
  config_bytes_ = size.configImageSize;
  auto image = PRESERVE_CUPTI_PARAMS(Profiler_Host_GetConfigImage);
  image.pHostObject = host_;
  image.configImageSize = config_bytes_;
  image.pConfigImage = config_;
  if ((result = api_.host_config(&image)) != CUPTI_SUCCESS) return result;
  auto number = PRESERVE_CUPTI_PARAMS(Profiler_Host_GetNumOfPasses);
  number.configImageSize = config_bytes_;
  number.pConfigImage = config_;
  result = api_.host_passes(&number);
  passes = number.numOfPasses;
  return result;
}

CUptiResult CounterMetrics::evaluate(const uint8_t* image, size_t image_bytes, size_t range,
                                     double (&values)[kCounters]) const {
  for (double& value : values) value = -1;
  double found[kCounters] = {};
  auto params = PRESERVE_CUPTI_PARAMS(Profiler_Host_EvaluateToGpuValues);
  params.pHostObject = host_;
  params.pCounterDataImage = image;
  params.counterDataImageSize = image_bytes;
  params.rangeIndex = range;
  params.ppMetricNames = const_cast<const char**>(names_);
  params.numMetrics = count_;
  params.pMetricValues = found;
  const CUptiResult result = api_.host_evaluate(&params);
  if (result != CUPTI_SUCCESS) return result;
  for (size_t i = 0; i < count_; ++i) values[counter_of_[i]] = found[i] * unit_bytes_[i];
  return result;
}

}  // namespace preserve::cuda
