// SPDX-License-Identifier: Apache-2.0
// A CUPTI of a few functions, in the executable or library that has this: one subscriber is told of
// the calls of the driver that a program makes through call().
#pragma once

#include <cuda.h>
#include <cupti.h>

#include <cstdint>

namespace preserve::test {

extern bool held_by_other;  // no subscriber is taken that asks to be the only one
extern uint32_t cupti_version;
extern bool refuses_callbacks;
bool is_subscribed();
bool listens_to(const char* function);
void announce(const char* function, CUpti_ApiCallbackSite site, void* params, CUresult* result);

// The program's call, with CUPTI around it; without a function it does nothing else.
template <typename Params, typename Function = CUresult (*)()>
CUresult call(
    const char* name, Params&& params, Function function = [] { return CUDA_SUCCESS; }) {
  CUresult result = CUDA_SUCCESS;
  announce(name, CUPTI_API_ENTER, &params, &result);
  result = function();
  announce(name, CUPTI_API_EXIT, &params, &result);
  return result;
}

}  // namespace preserve::test
