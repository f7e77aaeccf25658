// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/cuda/cupti_api.h"

#include <dlfcn.h>
#include <stdio.h>

#include "hooks/cuda/cupti_library.h"

namespace preserve::cuda {
bool CuptiApi::load(char* why, size_t why_bytes) {
  void* library = hooks::find_cupti();
  if (library == nullptr) {
    ::snprintf(why, why_bytes,
               "no libcupti was found (CUDA toolkit, PyTorch wheel, or PRESERVE_CUPTI=PATH)");
    return false;
  }
  return resolve(library, why, why_bytes);
}

bool CuptiApi::resolve(void* library, char* why, size_t why_bytes) {
#define PRESERVE_CUPTI_RESOLVE(member, symbol, required)                                \
  member = reinterpret_cast<decltype(member)>(::dlsym(library, #symbol));               \
  if (required && member == nullptr) {                                                  \
    ::snprintf(why, why_bytes, "the libcupti of this process is too old: no " #symbol); \
    return false;                                                                       \
  }
  PRESERVE_CUPTI_FUNCTIONS(PRESERVE_CUPTI_RESOLVE)
#undef PRESERVE_CUPTI_RESOLVE
  // The driver is loaded (it called us), or this is a test without one.
  void* driver = ::dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_LAZY);
  void* scope = driver != nullptr ? driver : RTLD_DEFAULT;
  func_param_info =
      reinterpret_cast<decltype(func_param_info)>(::dlsym(scope, "cuFuncGetParamInfo"));
  kernel_param_info =
      reinterpret_cast<decltype(kernel_param_info)>(::dlsym(scope, "cuKernelGetParamInfo"));
  stream_is_capturing =
      reinterpret_cast<decltype(stream_is_capturing)>(::dlsym(scope, "cuStreamIsCapturing"));
  return true;
}

bool CuptiApi::reads_counters() const {
  return device_id != nullptr && chip_name != nullptr && profiler_initialize != nullptr &&
         host_initialize != nullptr && host_deinitialize != nullptr &&
         host_add_metrics != nullptr && host_config_size != nullptr && host_config != nullptr &&
         host_passes != nullptr && host_evaluate != nullptr && range_enable != nullptr &&
         range_disable != nullptr && range_configure != nullptr && range_start != nullptr &&
         range_stop != nullptr && range_decode != nullptr && range_image_size != nullptr &&
         range_image_init != nullptr && range_image_info != nullptr;
}

const char* CuptiApi::text(CUptiResult result) const {
  const char* out = nullptr;
  if (result_string == nullptr || result_string(result, &out) != CUPTI_SUCCESS || out == nullptr) {
    return "an error without a name";
  }
  return out;
}

}  // namespace preserve::cuda
