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

// name in the table, symbol, whether recording is impossible without it
#define PRESERVE_CUPTI_FUNCTIONS(F)                                        \
  F(get_version, cuptiGetVersion, true)                                    \
  F(subscribe, cuptiSubscribe, true)                                       \
  F(subscribe_v2, cuptiSubscribe_v2, false)                                \
  F(unsubscribe, cuptiUnsubscribe, true)                                   \
  F(enable_callback, cuptiEnableCallback, true)                            \
  F(enable_domain, cuptiEnableDomain, true)                                \
  F(get_callback_name, cuptiGetCallbackName, true)                         \
  F(register_callbacks, cuptiActivityRegisterCallbacks, true)              \
  F(register_timestamp, cuptiActivityRegisterTimestampCallback, false)     \
  F(get_timestamp, cuptiGetTimestamp, false)                               \
  F(activity_enable, cuptiActivityEnable, true)                            \
  F(activity_disable, cuptiActivityDisable, true)                          \
  F(next_record, cuptiActivityGetNextRecord, true)                         \
  F(dropped_records, cuptiActivityGetNumDroppedRecords, true)              \
  F(flush_all, cuptiActivityFlushAll, true)                                \
  F(flush_period, cuptiActivityFlushPeriod, false)                         \
  F(set_attribute, cuptiActivitySetAttribute, true)                        \
  F(set_thread_id_type, cuptiSetThreadIdType, false)                       \
  F(all_sync_records, cuptiActivityEnableAllSyncRecords, false)            \
  F(graph_node_id, cuptiGetGraphNodeId, false)                             \
  F(graph_id, cuptiGetGraphId, false)                                      \
  F(hw_trace, cuptiActivityEnableHWTrace, false)                           \
  F(result_string, cuptiGetResultString, false)                            \
  F(device_id, cuptiGetDeviceId, false)                                    \
  F(chip_name, cuptiDeviceGetChipName, false)                              \
  F(profiler_initialize, cuptiProfilerInitialize, false)                   \
  F(counter_availability, cuptiProfilerGetCounterAvailability, false)      \
  F(host_initialize, cuptiProfilerHostInitialize, false)                   \
  F(host_deinitialize, cuptiProfilerHostDeinitialize, false)               \
  F(host_add_metrics, cuptiProfilerHostConfigAddMetrics, false)            \
  F(host_config_size, cuptiProfilerHostGetConfigImageSize, false)          \
  F(host_config, cuptiProfilerHostGetConfigImage, false)                   \
  F(host_passes, cuptiProfilerHostGetNumOfPasses, false)                   \
  F(host_evaluate, cuptiProfilerHostEvaluateToGpuValues, false)            \
  F(range_enable, cuptiRangeProfilerEnable, false)                         \
  F(range_disable, cuptiRangeProfilerDisable, false)                       \
  F(range_configure, cuptiRangeProfilerSetConfig, false)                   \
  F(range_start, cuptiRangeProfilerStart, false)                           \
  F(range_stop, cuptiRangeProfilerStop, false)                             \
  F(range_decode, cuptiRangeProfilerDecodeData, false)                     \
  F(range_image_size, cuptiRangeProfilerGetCounterDataSize, false)         \
  F(range_image_init, cuptiRangeProfilerCounterDataImageInitialize, false) \
  F(range_image_info, cuptiRangeProfilerGetCounterDataInfo, false)

struct CuptiApi {
#define PRESERVE_CUPTI_MEMBER(member, symbol, required) decltype(&::symbol) member = nullptr;
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
