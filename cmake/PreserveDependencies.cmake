# SPDX-License-Identifier: Apache-2.0
# Everything from outside. All of it is a Debian package (scripts/debian-packages.txt) except NVTX.
find_package(fmt REQUIRED)
set(PRESERVE_FMT fmt::fmt)
if(PRESERVE_BUNDLE)
  set(PRESERVE_FMT fmt::fmt-header-only)  # the shared one would bring the shared C++ runtime with it
endif()
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(ZLIB REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(PkgConfig REQUIRED)
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
if(PRESERVE_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
  find_package(rapidcheck REQUIRED)
  if(PRESERVE_BENCH)
    find_package(benchmark REQUIRED)
  endif()
endif()

# valijson is header-only and Debian ships no CMake package for it.
find_path(VALIJSON_INCLUDE_DIR valijson/validator.hpp REQUIRED)
add_library(preserve_valijson INTERFACE)
target_include_directories(preserve_valijson SYSTEM INTERFACE ${VALIJSON_INCLUDE_DIR})

# CUDA is optional when building and never needed at run time on a machine without a GPU.
set(PRESERVE_CUDA_SUMMARY "off")
set(PRESERVE_HAVE_CUDA FALSE)
if(NOT PRESERVE_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit QUIET)
  if(CUDAToolkit_FOUND)
    set(PRESERVE_HAVE_CUDA TRUE)
    set(PRESERVE_CUDA_SUMMARY "${CUDAToolkit_VERSION}")
  elseif(PRESERVE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "PRESERVE_CUDA=ON but no CUDA toolkit was found; set CUDAToolkit_ROOT, "
                        "or use -DPRESERVE_CUDA=AUTO to build without it")
  endif()
endif()

# NVTX 3 (header-only, not in Debian): a given path, the CUDA toolkit's copy, a system copy, and only
# then the one download this build ever makes: a pinned upstream release, checked by its digest.
set(nvtx_probe nvtx3/nvToolsExtMem.h)  # the newest of the headers needed
set(PRESERVE_NVTX_ORIGIN "")
if(PRESERVE_NVTX_INCLUDE_DIR)
  if(NOT EXISTS ${PRESERVE_NVTX_INCLUDE_DIR}/${nvtx_probe})
    message(FATAL_ERROR "PRESERVE_NVTX_INCLUDE_DIR=${PRESERVE_NVTX_INCLUDE_DIR} holds no ${nvtx_probe}; "
                        "NVTX 3.2 or newer is needed")
  endif()
  set(nvtx_dir ${PRESERVE_NVTX_INCLUDE_DIR})
  set(PRESERVE_NVTX_ORIGIN "the given path ${nvtx_dir}")
else()
  find_path(PRESERVE_NVTX_FOUND_DIR ${nvtx_probe}
            HINTS ${CUDAToolkit_INCLUDE_DIRS} /usr/local/cuda/include)
  mark_as_advanced(PRESERVE_NVTX_FOUND_DIR)
  if(PRESERVE_NVTX_FOUND_DIR)
    set(nvtx_dir ${PRESERVE_NVTX_FOUND_DIR})
    set(PRESERVE_NVTX_ORIGIN "${nvtx_dir}")
  else()
    message(STATUS "NVTX headers not found on this machine: fetching the NVTX 3.3.0 release")
    include(FetchContent)
    FetchContent_Declare(nvtx3
      URL https://github.com/NVIDIA/NVTX/archive/refs/tags/v3.3.0.tar.gz
      URL_HASH SHA256=67d0cda2f9d19a89684592dab40c0bf2c2b13d5d588e51392076c0890a64b6c0
      DOWNLOAD_EXTRACT_TIMESTAMP FALSE
      SOURCE_SUBDIR headers-only)  # no such folder: populate, do not configure
    FetchContent_MakeAvailable(nvtx3)
    set(nvtx_dir ${nvtx3_SOURCE_DIR}/c/include)
    if(NOT EXISTS ${nvtx_dir}/${nvtx_probe})
      message(FATAL_ERROR "the fetched NVTX release holds no ${nvtx_probe}")
    endif()
    set(PRESERVE_NVTX_ORIGIN "the NVTX 3.3.0 release (fetched)")
  endif()
endif()
add_library(preserve_nvtx INTERFACE)
target_include_directories(preserve_nvtx SYSTEM INTERFACE ${nvtx_dir})
target_link_libraries(preserve_nvtx INTERFACE ${CMAKE_DL_LIBS})
