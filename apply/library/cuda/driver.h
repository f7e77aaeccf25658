// SPDX-License-Identifier: Apache-2.0
// The driver as a table of functions, found at run time: nothing is linked, and a fake table is the
// seam for tests. Graphs are only changed where all of them are there (CUDA 12.4).
#pragma once

#include <cuda.h>

#include "common/no_copy.h"

namespace preserve::apply {

// name in the table, function of cuda.h, symbol in libcuda.so.1
#define PRESERVE_DRIVER_FUNCTIONS(F)                                                               \
  F(version, cuDriverGetVersion, "cuDriverGetVersion")                                             \
  F(graph_nodes, cuGraphGetNodes, "cuGraphGetNodes")                                               \
  F(graph_edges, cuGraphGetEdges, "cuGraphGetEdges_v2")                                            \
  F(node_type, cuGraphNodeGetType, "cuGraphNodeGetType")                                           \
  F(kernel_params, cuGraphKernelNodeGetParams, "cuGraphKernelNodeGetParams_v2")                    \
  F(set_kernel_params, cuGraphKernelNodeSetParams, "cuGraphKernelNodeSetParams_v2")                \
  F(kernel_attribute, cuGraphKernelNodeGetAttribute, "cuGraphKernelNodeGetAttribute")              \
  F(set_kernel_attribute, cuGraphKernelNodeSetAttribute, "cuGraphKernelNodeSetAttribute")          \
  F(add_node, cuGraphAddNode, "cuGraphAddNode_v2")                                                 \
  F(destroy_node, cuGraphDestroyNode, "cuGraphDestroyNode")                                        \
  F(function_name, cuFuncGetName, "cuFuncGetName")                                                 \
  F(kernel_name, cuKernelGetName, "cuKernelGetName")                                               \
  F(function_parameter, cuFuncGetParamInfo, "cuFuncGetParamInfo")                                  \
  F(kernel_parameter, cuKernelGetParamInfo, "cuKernelGetParamInfo")                                \
  F(pointer_attributes, cuPointerGetAttributes, "cuPointerGetAttributes")                          \
  F(address_range, cuMemGetAddressRange, "cuMemGetAddressRange_v2")                                \
  F(exchange_capture_mode, cuThreadExchangeStreamCaptureMode, "cuThreadExchangeStreamCaptureMode") \
  F(current_context, cuCtxGetCurrent, "cuCtxGetCurrent")                                           \
  F(green_context, cuCtxFromGreenCtx, "cuCtxFromGreenCtx")                                         \
  F(priority_range, cuCtxGetStreamPriorityRange, "cuCtxGetStreamPriorityRange")                    \
  F(load_module, cuModuleLoadData, "cuModuleLoadData")                                             \
  F(module_function, cuModuleGetFunction, "cuModuleGetFunction")                                   \
  F(allocate, cuMemAlloc, "cuMemAlloc_v2")                                                         \
  F(fill, cuMemsetD32, "cuMemsetD32_v2")                                                           \
  F(write_value, cuStreamWriteValue32, "cuStreamWriteValue32_v2")                                  \
  F(is_capturing, cuStreamIsCapturing, "cuStreamIsCapturing")                                      \
  F(create_event, cuEventCreate, "cuEventCreate")                                                  \
  F(record_event, cuEventRecord, "cuEventRecord")                                                  \
  F(query_event, cuEventQuery, "cuEventQuery")                                                     \
  F(elapsed_ms, cuEventElapsedTime, "cuEventElapsedTime")                                          \
  F(set_enabled, cuGraphNodeSetEnabled, "cuGraphNodeSetEnabled")                                   \
  F(current_device, cuCtxGetDevice, "cuCtxGetDevice")                                              \
  F(device_attribute, cuDeviceGetAttribute, "cuDeviceGetAttribute")                                \
  F(memory_info, cuMemGetInfo, "cuMemGetInfo_v2")                                                  \
  F(primary_state, cuDevicePrimaryCtxGetState, "cuDevicePrimaryCtxGetState")                       \
  F(retain_primary, cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain")                          \
  F(release_primary, cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2")

struct Driver {
#define PRESERVE_DRIVER_MEMBER(member, function, symbol) decltype(&::function) member = nullptr;
  PRESERVE_DRIVER_FUNCTIONS(PRESERVE_DRIVER_MEMBER)
#undef PRESERVE_DRIVER_MEMBER

  // From the libcuda that the process has; false when one is missing, named in `missing`.
  bool load(const char*& missing);
};

// While it lives, calls of this thread are allowed whatever is being captured on any thread.
class Uncaptured : NoCopy {
 public:
  explicit Uncaptured(const Driver& driver)
      : driver_(driver), result_(driver.exchange_capture_mode(&mode_)) {}
  // Tried twice: the mode is the program's.
  ~Uncaptured() {
    if (result_ != CUDA_SUCCESS || driver_.exchange_capture_mode(&mode_) == CUDA_SUCCESS) return;
    (void)driver_.exchange_capture_mode(&mode_);
  }
  CUresult result() const { return result_; }

 private:
  const Driver& driver_;
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
  const CUresult result_;
};

}  // namespace preserve::apply
