# SPDX-License-Identifier: Apache-2.0
# nvcc, for what runs on the GPU itself. Optional: without it calibration and replay on a GPU answer
# that they were built without CUDA. The toolkit alone is looked for in PreserveDependencies.cmake.
#   PRESERVE_HAVE_NVCC    CUDA is an enabled language
#   PRESERVE_GPU_DEVICE   replay/cuda is built for real; it uses the graph interface of CUDA 13
set(PRESERVE_HAVE_NVCC FALSE)
set(PRESERVE_GPU_DEVICE FALSE)
if(PRESERVE_HAVE_CUDA AND NOT PRESERVE_SANITIZE)  # nvcc does not take sanitizer flags
  if(NOT CMAKE_CUDA_COMPILER AND CUDAToolkit_NVCC_EXECUTABLE)
    set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES 80)  # of targets that set none
    if(PRESERVE_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${PRESERVE_CCACHE})
    endif()
    enable_language(CUDA)
    set(PRESERVE_HAVE_NVCC TRUE)
    if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 13.0)
      set(PRESERVE_GPU_DEVICE TRUE)
    else()
      string(APPEND PRESERVE_CUDA_SUMMARY " (calibration and replay on a GPU need 13.0)")
    endif()
  else()
    string(APPEND PRESERVE_CUDA_SUMMARY " (no nvcc: no calibration and replay on a GPU)")
  endif()
endif()
