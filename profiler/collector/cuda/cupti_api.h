// SPDX-License-Identifier: Apache-2.0
// libcupti as a table of functions, found at run time: the profiled process may bring its own copy
// (PyTorch does), two copies in one process do not work, and most machines have none. A fake table
// is the seam for tests.
#pragma once

#include <cupti.h>
#include <cupti_profiler_host.h>
#include <cupti_profiler_target.h>
#include <cupti_range_profiler.h>
#include <cupti_target.h>

namespace preserve::cuda {

// What cannot be done without a function.
enum class CuptiNeed { recording, counters, nothing };

// name in the table, symbol, CuptiNeed
#define PRESERVE_CUPTI_FUNCTIONS(F)                                           \
  F(get_version, cuptiGetVersion, recording)                                  \
  F(subscribe, cuptiSubscribe, recording)                                     \
  F(subscribe_v2, cuptiSubscribe_v2, nothing)                                 \
  F(unsubscribe, cuptiUnsubscribe, recording)                                 \
  F(enable_callback, cuptiEnableCallback, recording)                          \
  F(enable_domain, cuptiEnableDomain, recording)                              \
  F(get_callback_name, cuptiGetCallbackName, recording)                       \
  F(register_callbacks, cuptiActivityRegisterCallbacks, recording)            \
  F(register_timestamp, cuptiActivityRegisterTimestampCallback, nothing)      \
  F(get_timestamp, cuptiGetTimestamp, nothing)                                \
  F(activity_enable, cuptiActivityEnable, recording)                          \
  F(activity_disable, cuptiActivityDisable, recording)                        \
  F(next_record, cuptiActivityGetNextRecord, recording)                       \
  F(dropped_records, cuptiActivityGetNumDroppedRecords, recording)            \
  F(flush_all, cuptiActivityFlushAll, recording)                              \
  F(flush_period, cuptiActivityFlushPeriod, nothing)                          \
  F(set_attribute, cuptiActivitySetAttribute, recording)                      \
  F(set_thread_id_type, cuptiSetThreadIdType, nothing)                        \
  F(all_sync_records, cuptiActivityEnableAllSyncRecords, nothing)             \
  F(graph_node_id, cuptiGetGraphNodeId, nothing)                              \
  F(graph_id, cuptiGetGraphId, nothing)                                       \
  F(hw_trace, cuptiActivityEnableHWTrace, nothing)                            \
  F(result_string, cuptiGetResultString, nothing)                             \
  F(device_id, cuptiGetDeviceId, counters)                                    \
  F(chip_name, cuptiDeviceGetChipName, counters)                              \
  F(profiler_initialize, cuptiProfilerInitialize, counters)                   \
  F(counter_availability, cuptiProfilerGetCounterAvailability, nothing)       \
  F(host_initialize, cuptiProfilerHostInitialize, counters)                   \
  F(host_deinitialize, cuptiProfilerHostDeinitialize, counters)               \
  F(host_add_metrics, cuptiProfilerHostConfigAddMetrics, counters)            \
  F(host_config_size, cuptiProfilerHostGetConfigImageSize, counters)          \
  F(host_config, cuptiProfilerHostGetConfigImage, counters)                   \
  F(host_passes, cuptiProfilerHostGetNumOfPasses, counters)                   \
  F(host_evaluate, cuptiProfilerHostEvaluateToGpuValues, counters)            \
  F(range_enable, cuptiRangeProfilerEnable, counters)                         \
  F(range_disable, cuptiRangeProfilerDisable, counters)                       \
  F(range_configure, cuptiRangeProfilerSetConfig, counters)                   \
  F(range_start, cuptiRangeProfilerStart, counters)                           \
  F(range_stop, cuptiRangeProfilerStop, counters)                             \
  F(range_decode, cuptiRangeProfilerDecodeData, counters)                     \
  F(range_image_size, cuptiRangeProfilerGetCounterDataSize, counters)         \
  F(range_image_init, cuptiRangeProfilerCounterDataImageInitialize, counters) \
  F(range_image_info, cuptiRangeProfilerGetCounterDataInfo, counters)

// A structure of arguments of CUPTI's functions for counters, of the size that the headers know.
#define PRESERVE_CUPTI_PARAMS(name) \
  preserve::cuda::params_of<CUpti_##name##_Params>(CUpti_##name##_Params_STRUCT_SIZE)
template <typename Params>
Params params_of(size_t struct_size) {
  Params params{};
  params.structSize = struct_size;
  return params;
}

struct CuptiApi {
#define PRESERVE_CUPTI_MEMBER(member, symbol, need) decltype(&::symbol) member = nullptr;
  PRESERVE_CUPTI_FUNCTIONS(PRESERVE_CUPTI_MEMBER)
#undef PRESERVE_CUPTI_MEMBER
  // Of the driver; missing ones leave the layout of kernel parameters unknown.
  decltype(&::cuFuncGetParamInfo) func_param_info = nullptr;
  decltype(&::cuKernelGetParamInfo) kernel_param_info = nullptr;
  decltype(&::cuStreamIsCapturing) stream_is_capturing = nullptr;
  // Whether this CUPTI reads counters (range profiler and host functions: CUDA 12.6 Update 2).
  bool reads_counters() const;

  // First of all the copy that the process already has; then PRESERVE_CUPTI, the folder of this
  // library, PyTorch's wheels next to a loaded libtorch, the toolkit, the system's search path.
  // False with the reason in `why` (at least 256 bytes).
  bool load(char* why, size_t why_bytes);
  const char* text(CUptiResult result) const;

 private:
  bool resolve(void* library, char* why, size_t why_bytes);
};

}  // namespace preserve::cuda
