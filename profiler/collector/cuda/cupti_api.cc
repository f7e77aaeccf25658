// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/cuda/cupti_api.h"

#include <dlfcn.h>
#include <stdio.h>

#include <type_traits>

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
#define PRESERVE_CUPTI_RESOLVE(member, symbol, need)                                    \
  member = reinterpret_cast<decltype(member)>(::dlsym(library, #symbol));               \
  if (CuptiNeed::need == CuptiNeed::recording && member == nullptr) {                   \
    ::snprintf(why, why_bytes, "the libcupti of this process is too old: no " #symbol); \
    return false;                                                                       \
  }
  PRESERVE_CUPTI_FUNCTIONS(PRESERVE_CUPTI_RESOLVE)
#undef PRESERVE_CUPTI_RESOLVE
  // The driver is loaded (it called us), or this is a test without one.
  void* driver = ::dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_LAZY);
  void* scope = driver != nullptr ? driver : RTLD_DEFAULT;
  const auto take = [scope](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(scope, name));
  };
  take(func_param_info, "cuFuncGetParamInfo");
  take(kernel_param_info, "cuKernelGetParamInfo");
  take(stream_is_capturing, "cuStreamIsCapturing");
  return true;
}

bool CuptiApi::reads_counters() const {
  bool all = true;
#define PRESERVE_CUPTI_READS(member, symbol, need) \
  all = all && (CuptiNeed::need != CuptiNeed::counters || member != nullptr);
  PRESERVE_CUPTI_FUNCTIONS(PRESERVE_CUPTI_READS)
#undef PRESERVE_CUPTI_READS
  return all;
}

const char* CuptiApi::text(CUptiResult result) const {
  const char* out = nullptr;
  if (result_string == nullptr || result_string(result, &out) != CUPTI_SUCCESS || out == nullptr) {
    return "an error without a name";
  }
  return out;
}

}  // namespace preserve::cuda
