// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/error.h"

namespace preserve::cuda {
namespace {

std::string version_text(int cuda) {
  return fmt::format("{}.{}", cuda / 1000, cuda % 1000 / 10);
}

// Drivers of that branch and newer run programs of every CUDA 13 (NVIDIA, "CUDA Compatibility").
constexpr int kFirstMajor = 13, kFirstDriver = 580;

std::string driver_for(int cuda) {
  if (cuda / 1000 == kFirstMajor) return fmt::format("{} or newer", kFirstDriver);
  return fmt::format("one that speaks CUDA {} or newer", version_text(cuda));
}

std::string name_of(cudaError_t error) {
  return fmt::format("{} ({})", cudaGetErrorName(error), cudaGetErrorString(error));
}

// After these, every further call of this process fails too.
bool is_sticky(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
      return true;
    default:
      return false;
  }
}

}  // namespace

void check_cuda(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
      throw input_error("{}: {}: the GPU has a hardware error; reset or replace it", call,
                        name_of(error));
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorNoKernelImageForDevice:
      throw input_error(
          "{}: {}: this build has no code for that GPU; build for it or use one of "
          "compute capability 8.0 or newer with a newer driver",
          call, name_of(error));
    default:
      break;
  }
  if (is_sticky(error)) {
    throw internal_error("{}: {}; this process cannot use the GPU any more", call, name_of(error));
  }
  cudaGetLastError();  // reported here: the next call must not find it
  throw internal_error("{}: {}", call, name_of(error));
}

Error cannot_open(cudaError_t error, int driver_cuda, int runtime_cuda) {
  cudaGetLastError();
  if (driver_cuda == 0) {
    return input_error(
        "the NVIDIA driver is missing: install {}, as this was built with CUDA {}, or run "
        "without the GPU",
        driver_for(runtime_cuda), version_text(runtime_cuda));
  }
  switch (error) {
    case cudaErrorInsufficientDriver:
      return input_error(
          "the NVIDIA driver supports CUDA {}, this was built with {}: update the driver to {}, "
          "or, "
          "on a data-centre GPU, put the libcuda of the package cuda-compat-{}-{} into "
          "LD_LIBRARY_PATH",
          version_text(driver_cuda), version_text(runtime_cuda), driver_for(runtime_cuda),
          runtime_cuda / 1000, runtime_cuda % 1000 / 10);
    case cudaErrorNoDevice:
      return input_error(
          "the NVIDIA driver shows no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES");
    case cudaErrorDevicesUnavailable:
      return input_error(
          "the GPU is taken: another process holds it exclusively; wait for it or choose another "
          "GPU");
    case cudaErrorSystemNotReady:
      return input_error(
          "the GPUs are not ready: start the machine's nvidia-fabricmanager service");
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      return input_error(
          "libcuda does not fit the driver that is loaded: {}; reboot, or remove a "
          "compatibility libcuda from the library path",
          cudaGetErrorString(error));
    case cudaErrorMemoryAllocation:
      return input_error(
          "the GPU has not enough free memory to be opened: end what else runs on it");
    default:
      return input_error("the GPU cannot be opened: {}; check nvidia-smi", name_of(error));
  }
}

Error no_such_device(int ordinal, int devices) {
  return input_error("GPU {} is not available: this process sees {}, numbered from 0", ordinal,
                     devices);
}

Error too_old_device(const std::string& name, int major, int minor) {
  return input_error("{} has compute capability {}.{}: 8.0 (A100) or newer is needed", name, major,
                     minor);
}

}  // namespace preserve::cuda
