// SPDX-License-Identifier: Apache-2.0
// The half of the fake CUPTI that counts: the range profiler and the evaluation of its images.
#include "tests/profiler/collector/cuda/fake_counters.h"

#include <cupti.h>
#include <cupti_profiler_host.h>
#include <cupti_profiler_target.h>
#include <cupti_range_profiler.h>
#include <cupti_target.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/profiler/collector/cuda/fake_cupti.h"
#include "tests/support/stub.h"

namespace {

using namespace fake;

// The range profiler: one session at a time, its image holds the launches that ran in it.
struct FakeImage {
  uint64_t room, ranges, kernels[1];
};
constexpr size_t kImageHeadBytes = 2 * sizeof(uint64_t);
FakeImage* image = nullptr;
std::atomic<bool> counting{false};
uint64_t counted_kernels = 0, uncounted_ranges = 0;
std::atomic<int> live_hosts{0}, enabled_profilers{0}, sessions{0};
struct FakeHost {
  std::string chip;
  std::vector<std::string> metrics;
  bool spoiled;
};

}  // namespace

void fake::count_kernel() {
  ++counted_kernels;
  if (counting && image->ranges < image->room) {
    image->kernels[image->ranges++] = counted_kernels;
  } else if (counting) {
    ++uncounted_ranges;
  }
}

extern "C" {

STUB(int fake_counting_objects(), live_hosts + enabled_profilers)
STUB(int fake_counting_sessions(), sessions)
STUB(CUptiResult cuptiGetDeviceId(CUcontext, uint32_t* device), *device = 0, CUPTI_SUCCESS)
CUptiResult cuptiDeviceGetChipName(CUpti_Device_GetChipName_Params* params) {
  const char* chip = std::getenv("FAKE_CHIP");
  params->pChipName = chip == nullptr ? "FAKE100" : chip;
  return CUPTI_SUCCESS;
}
STUB(CUptiResult cuptiProfilerInitialize(CUpti_Profiler_Initialize_Params*),
     static_cast<CUptiResult>(failure("initialize=")))
CUptiResult cuptiProfilerGetCounterAvailability(
    CUpti_Profiler_GetCounterAvailability_Params* params) {
  if (params->pCounterAvailabilityImage != nullptr) params->pCounterAvailabilityImage[0] = 1;
  params->counterAvailabilityImageSize = 16;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostInitialize(CUpti_Profiler_Host_Initialize_Params* params) {
  if (std::string(params->pChipName) == "UNKNOWN") return CUPTI_ERROR_NOT_SUPPORTED;
  if (params->pCounterAvailabilityImage == nullptr || params->pCounterAvailabilityImage[0] != 1)
    return CUPTI_ERROR_INVALID_PARAMETER;
  params->pHostObject =
      reinterpret_cast<CUpti_Profiler_Host_Object*>(new FakeHost{params->pChipName, {}, false});
  ++live_hosts;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostDeinitialize(CUpti_Profiler_Host_Deinitialize_Params* params) {
  delete reinterpret_cast<FakeHost*>(params->pHostObject);
  --live_hosts;
  return CUPTI_SUCCESS;
}
// A metric that a chip lacks spoils the object. NODRAM has no memory of its own.
CUptiResult cuptiProfilerHostConfigAddMetrics(CUpti_Profiler_Host_ConfigAddMetrics_Params* params) {
  auto* host = reinterpret_cast<FakeHost*>(params->pHostObject);
  if (host->spoiled) return CUPTI_ERROR_UNKNOWN;
  for (size_t i = 0; i < params->numMetrics; ++i) {
    const std::string name = params->ppMetricNames[i];
    const bool dram = name.rfind("dram__", 0) == 0;
    if (dram && (host->chip == "NODRAM" || name.find("_op_") != std::string::npos)) {
      host->spoiled = true;
      return CUPTI_ERROR_INVALID_METRIC_NAME;
    }
    host->metrics.push_back(name);
  }
  return CUPTI_SUCCESS;
}
STUB(CUptiResult cuptiProfilerHostGetConfigImageSize(
         CUpti_Profiler_Host_GetConfigImageSize_Params* params),
     params->configImageSize = sizeof(uint64_t), CUPTI_SUCCESS)
// The image holds the number of passes: TWOPASS can count three things in one.
CUptiResult cuptiProfilerHostGetConfigImage(CUpti_Profiler_Host_GetConfigImage_Params* params) {
  const auto* host = reinterpret_cast<FakeHost*>(params->pHostObject);
  const uint64_t passes = host->chip == "TWOPASS" && host->metrics.size() > 3 ? 2 : 1;
  std::memcpy(params->pConfigImage, &passes, sizeof(passes));
  return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostGetNumOfPasses(CUpti_Profiler_Host_GetNumOfPasses_Params* params) {
  uint64_t passes = 0;
  std::memcpy(&passes, params->pConfigImage, sizeof(passes));
  params->numOfPasses = passes;
  return CUPTI_SUCCESS;
}
// The n-th kernel of the process moves n * 1000 of everything, more of what is later in the list.
CUptiResult cuptiProfilerHostEvaluateToGpuValues(
    CUpti_Profiler_Host_EvaluateToGpuValues_Params* params) {
  const auto* from = reinterpret_cast<const FakeImage*>(params->pCounterDataImage);
  for (size_t i = 0; i < params->numMetrics; ++i) {
    params->pMetricValues[i] = static_cast<double>(from->kernels[params->rangeIndex] * 1000 + i);
  }
  return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerEnable(CUpti_RangeProfiler_Enable_Params* params) {
  if (const int error = failure("counters=")) return static_cast<CUptiResult>(error);
  params->pRangeProfilerObject = reinterpret_cast<CUpti_RangeProfiler_Object*>(&image);
  ++enabled_profilers;
  return CUPTI_SUCCESS;
}
STUB(CUptiResult cuptiRangeProfilerDisable(CUpti_RangeProfiler_Disable_Params*),
     --enabled_profilers, CUPTI_SUCCESS)
CUptiResult cuptiRangeProfilerGetCounterDataSize(
    CUpti_RangeProfiler_GetCounterDataSize_Params* params) {
  const int bytes = failure("range_bytes=");
  params->counterDataSize =
      kImageHeadBytes + params->maxNumOfRanges * static_cast<size_t>(bytes == 0 ? 8 : bytes);
  return CUPTI_SUCCESS;
}
STUB(CUptiResult cuptiRangeProfilerCounterDataImageInitialize(
         CUpti_RangeProfiler_CounterDataImage_Initialize_Params* params),
     std::memset(params->pCounterData, 0, params->counterDataSize), CUPTI_SUCCESS)
CUptiResult cuptiRangeProfilerSetConfig(CUpti_RangeProfiler_SetConfig_Params* params) {
  if (const int error = failure("configure=")) return static_cast<CUptiResult>(error);
  if (counting || params->range != CUPTI_AutoRange || params->passIndex != 0)
    return CUPTI_ERROR_INVALID_OPERATION;
  image = reinterpret_cast<FakeImage*>(params->pCounterDataImage);
  const int room = failure("room=");
  image->room = room == 0 ? params->maxRangesPerPass : static_cast<uint64_t>(room);
  return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerStart(CUpti_RangeProfiler_Start_Params*) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (counting || capturing) return CUPTI_ERROR_INVALID_OPERATION;
  ++sessions;
  uncounted_ranges = 0;
  counting = true;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerStop(CUpti_RangeProfiler_Stop_Params* params) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (!counting) return CUPTI_ERROR_INVALID_OPERATION;
  counting = false;
  params->isAllPassSubmitted = 1;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerDecodeData(CUpti_RangeProfiler_DecodeData_Params* params) {
  if (const int error = failure("decode=")) return static_cast<CUptiResult>(error);
  params->numOfRangeDropped = uncounted_ranges;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerGetCounterDataInfo(
    CUpti_RangeProfiler_GetCounterDataInfo_Params* params) {
  params->numTotalRanges = reinterpret_cast<const FakeImage*>(params->pCounterDataImage)->ranges;
  return CUPTI_SUCCESS;
}

}  // extern "C"
