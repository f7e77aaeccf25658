// SPDX-License-Identifier: Apache-2.0
#include "tests/apply/library/cuda/cupti.h"

#include <cstring>
#include <iterator>

namespace {

CUpti_CallbackFunc callback = nullptr;
const char* const kNames[] = {nullptr,
                              "cuInit",
                              "cuGraphInstantiateWithFlags",
                              "cuGraphInstantiateWithParams_ptsz",
                              "cuGraphLaunch_ptsz",
                              "cuGraphExecUpdate_v2",
                              "cuGraphExecKernelNodeSetParams_v2",  // not listened to
                              "cuGraphExecDestroy",
                              "cuGraphDestroy",
                              "cuGraphDestroyNode",
                              "cuMemAlloc_v2",
                              "cuGraphExecGetFlags",
                              "cuMemFree_v2",
                              "cuMemFreeAsync_ptsz",
                              "cuMemFreeHost",
                              "cuMemUnmap",
                              "cuIpcCloseMemHandle",
                              "cuCtxDestroy_v2",
                              "cuCtxDetach",
                              "cuDevicePrimaryCtxReset_v2",
                              "cuDevicePrimaryCtxRelease_v2",
                              "cuGraphClone",
                              "cuGraphAddChildGraphNode",
                              "cuGraphAddNode",
                              "cuGraphAddNode_v2",
                              "cuGraphExecChildGraphNodeSetParams",
                              "cuGraphLaunch",
                              "cuGraphNodeSetParams",
                              "cuGraphExecNodeSetParams",
                              "cuGreenCtxDestroy"};
constexpr uint32_t kCalls = std::size(kNames);
bool enabled[kCalls] = {};

uint32_t number_of(const char* function) {
  uint32_t id = 1;
  while (id < kCalls && std::strcmp(kNames[id], function) != 0) ++id;
  return id;
}

}  // namespace

namespace preserve::test {

bool held_by_other = false;
uint32_t cupti_version = 130000;
bool refuses_callbacks = false;

bool is_subscribed() {
  return callback != nullptr;
}

bool listens_to(const char* function) {
  const uint32_t id = number_of(function);
  return is_subscribed() && id < kCalls && enabled[id];
}

void announce(const char* function, CUpti_ApiCallbackSite site, void* params, CUresult* result) {
  if (!listens_to(function)) return;
  CUpti_CallbackData data{};
  data.callbackSite = site;
  data.functionParams = params;
  data.functionReturnValue = result;
  callback(nullptr, CUPTI_CB_DOMAIN_DRIVER_API, number_of(function), &data);
}

}  // namespace preserve::test

extern "C" __attribute__((visibility("default"))) CUptiResult cuptiGetVersion(uint32_t* version) {
  return *version = preserve::test::cupti_version, CUPTI_SUCCESS;
}
extern "C" __attribute__((visibility("default"))) CUptiResult cuptiSubscribe_v2(
    CUpti_SubscriberHandle*, CUpti_CallbackFunc function, void*, CUpti_SubscriberParams* params) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(params);
  constexpr size_t kAllowsOthers = CUpti_SubscriberParams_STRUCT_SIZE;  // since 13.2
  const bool allows = params->structSize > kAllowsOthers && bytes[kAllowsOthers] == 1;
  if (preserve::test::held_by_other && !(allows && preserve::test::cupti_version >= 130200)) {
    return CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
  }
  callback = function;
  return CUPTI_SUCCESS;
}
extern "C" __attribute__((visibility("default"))) CUptiResult cuptiSubscribe(
    CUpti_SubscriberHandle*, CUpti_CallbackFunc function, void*) {
  if (preserve::test::held_by_other) return CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
  callback = function;
  return CUPTI_SUCCESS;
}
extern "C" __attribute__((visibility("default"))) CUptiResult cuptiEnableCallback(
    uint32_t enable, CUpti_SubscriberHandle, CUpti_CallbackDomain, CUpti_CallbackId id) {
  if (preserve::test::refuses_callbacks) return CUPTI_ERROR_INVALID_PARAMETER;
  enabled[id] = enable != 0;
  return CUPTI_SUCCESS;
}
extern "C" __attribute__((visibility("default"))) CUptiResult cuptiUnsubscribe(
    CUpti_SubscriberHandle) {
  return callback = nullptr, CUPTI_SUCCESS;
}
extern "C" __attribute__((visibility("default"))) CUptiResult cuptiGetCallbackName(
    CUpti_CallbackDomain, uint32_t id, const char** name) {
  if (id >= kCalls) return CUPTI_ERROR_INVALID_PARAMETER;
  *name = kNames[id];
  return CUPTI_SUCCESS;
}
