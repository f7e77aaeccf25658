// SPDX-License-Identifier: Apache-2.0
// What the emulated driver says of itself, its devices and their contexts.
#include "tests/replay/cuda/emulated_driver.h"
#include "tests/replay/cuda/emulated_graph.h"

namespace preserve::emulated {

int driver_calls = 0, failing_call = 0;
bool failing_on = false;
int driver_version = 13000;
thread_local int current_device = 0;
int cache_bytes = 50 << 20, processors = 132, memory_device = 0;
size_t free_bytes = size_t{1} << 30;
bool primary_active = true;
bool too_old = false;

std::recursive_mutex& driver_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

Entry::Entry() : lock(driver_mutex()) {
  ++driver_calls;
  fails = failing_call > 0 &&
          (failing_on ? driver_calls >= failing_call : driver_calls == failing_call);
}

CUcontext context_of(int device) {
  static char places[8];
  return reinterpret_cast<CUcontext>(&places[device]);
}

}  // namespace preserve::emulated

using namespace preserve::emulated;

extern "C" {

CALL(CUresult cuDriverGetVersion(int* version), *version = driver_version, CUDA_SUCCESS)

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  static thread_local CUstreamCaptureMode current = CU_STREAM_CAPTURE_MODE_GLOBAL;
  return called([&] { return std::swap(current, *mode), CUDA_SUCCESS; });
}

CALL(CUresult cuCtxGetCurrent(CUcontext* context), *context = context_of(current_device),
     CUDA_SUCCESS)
CALL(CUresult cuCtxFromGreenCtx(CUcontext* context, CUgreenCtx green),
     *context = reinterpret_cast<CUcontext>(green), CUDA_SUCCESS)
CALL(CUresult cuCtxGetDevice(CUdevice* device), *device = current_device, CUDA_SUCCESS)
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  const Entry entry;
  if (entry.fails) return CUDA_ERROR_UNKNOWN;
  if (attribute == CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE) return *value = cache_bytes, CUDA_SUCCESS;
  if (attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT) {
    return *value = processors, CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}
CALL(CUresult cuMemGetInfo(size_t* free, size_t* total), *free = free_bytes,
     *total = size_t{1} << 34, CUDA_SUCCESS)
CALL(CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active), *flags = 0,
     *active = primary_active ? 1 : 0, CUDA_SUCCESS)
CALL(CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device), primary_active = true,
     *context = context_of(device), CUDA_SUCCESS)
CALL(CUresult cuDevicePrimaryCtxRelease(CUdevice), CUDA_SUCCESS)  // somebody else has it too
CALL(CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest), *least = 0, *greatest = -5,
     CUDA_SUCCESS)
}
