// SPDX-License-Identifier: Apache-2.0
// CUPTI's callbacks on the program's own threads: launches with their parameters, nodes of graphs,
// mappings, tensor maps. What to listen to is chosen by the names of the callbacks, not by their
// numbers, so that a newer CUPTI's launch functions are seen too.
//
// While nothing is recorded (capture range), only what is captured into graphs is: a server
// captures at start-up and is profiled later. A launch is described at its entry, the only time
// when its data may be read, and written then or when a node is created in it. Nothing here throws
// or waits; a CUDA call is made once per function.
#pragma once

#include <atomic>

#include "profiler/collector/cuda/cupti_api.h"
#include "profiler/collector/cuda/functions.h"

namespace preserve::cuda {

// What a driver or runtime function is to us.
enum class CallKind : uint8_t {
  none,
  launch_kernel,
  launch_kernel_ex,
  launch_cooperative,
  launch_graph,
  copy,
  node_add,
  node_set,
  node_set_exec,
  map,
  unmap,
  tensor_map,
  profiler_start,
  profiler_stop,
  capture_begin,
  capture_end,
  instantiate,
  context_end,
};
CallKind driver_call_kind(const char* name);
// Whether a call of the runtime may lie around one of these.
bool runtime_call_wanted(const char* name);

class Callbacks {
 public:
  // `counting`: counters are recorded, for which captures, executable graphs and names are needed.
  Callbacks(const CuptiApi& api, bool parameters, bool counting)
      : api_(api), parameters_(parameters), counting_(counting) {}

  // Enables everything for `subscriber`; false when nothing could be.
  bool enable(CUpti_SubscriberHandle subscriber);

  void on_driver(uint32_t cbid, const CUpti_CallbackData& data);
  void on_runtime(const CUpti_CallbackData& data);
  void on_resource(uint32_t cbid, const CUpti_ResourceData& data);
  CallKind kind(uint32_t cbid) const { return cbid < kMaxCbids ? kinds_[cbid] : CallKind::none; }

  std::atomic<bool> recording{false};

 private:
  static constexpr uint32_t kMaxCbids = 2048;

  void describe(CallKind kind, const CUpti_CallbackData& data, struct DescribedLaunch& out);
  void fill_kernel(CallKind kind, const CUpti_CallbackData& data,
                   struct LaunchArguments& arguments) const;
  void record_mapping(CallKind kind, const CUpti_CallbackData& data);
  void record_tensor_map(const CUpti_CallbackData& data);
  void record_node(NodeEvent event, const CUpti_GraphData& graph);
  uint32_t copy_parameters(const KernelFunction& function, void** parameters, void** extra,
                           char* out, bool& cut) const;

  const CuptiApi& api_;
  const bool parameters_, counting_;
  Functions functions_;
  CallKind kinds_[kMaxCbids] = {};
};

}  // namespace preserve::cuda
