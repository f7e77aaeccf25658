// SPDX-License-Identifier: Apache-2.0
#include "hooks/cuda/cupti_library.h"

#include <cuda.h>
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <iterator>

namespace preserve::hooks {
namespace {

constexpr size_t kPathBytes = 1024;

// Soname versions: CUDA 13 and 12 are named after the toolkit, 11 after 11.8.
constexpr const char* kNames[] = {"libcupti.so.13", "libcupti.so.12", "libcupti.so.11.8",
                                  "libcupti.so"};

// A libcupti newer than the driver refuses to work: start with the driver's own generation.
size_t first_name() {
  void* driver = ::dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_LAZY);
  if (driver == nullptr) return 0;
  auto version_of =
      reinterpret_cast<decltype(&::cuDriverGetVersion)>(::dlsym(driver, "cuDriverGetVersion"));
  int version = 0;
  const bool known = version_of != nullptr && version_of(&version) == CUDA_SUCCESS;
  ::dlclose(driver);
  if (!known || version >= 13000) return 0;
  return version >= 12000 ? 1 : 2;
}

struct Place {
  const char* root;  // nullptr or empty: there is none
  const char* below;
};
void* open_in(const Place& place, const char* name) {
  if (place.root == nullptr || *place.root == '\0') return nullptr;
  char path[kPathBytes];
  const int length = ::snprintf(path, sizeof(path), "%s%s/%s", place.root, place.below, name);
  if (length <= 0 || static_cast<size_t>(length) >= sizeof(path)) return nullptr;
  return ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

// The folder that holds this library, without a slash at the end; empty when unknown.
void own_folder(char* out, size_t bytes) {
  out[0] = '\0';
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr)
    return;
  const char* slash = ::strrchr(info.dli_fname, '/');
  if (slash == nullptr || static_cast<size_t>(slash - info.dli_fname) >= bytes) return;
  ::memcpy(out, info.dli_fname, static_cast<size_t>(slash - info.dli_fname));
  out[slash - info.dli_fname] = '\0';
}

// <site-packages> of the PyTorch in this process: .../torch/lib/libtorch_cuda.so.
int find_site_packages(dl_phdr_info* info, size_t, void* data) {
  const char* torch =
      info->dlpi_name == nullptr ? nullptr : ::strstr(info->dlpi_name, "/torch/lib/");
  if (torch == nullptr || static_cast<size_t>(torch - info->dlpi_name) >= kPathBytes) return 0;
  auto* out = static_cast<char*>(data);
  ::memcpy(out, info->dlpi_name, static_cast<size_t>(torch - info->dlpi_name));
  out[torch - info->dlpi_name] = '\0';
  return 1;
}

}  // namespace

void* find_cupti() {
  const size_t first = first_name();
  for (const char* name : kNames) {
    if (void* library = ::dlopen(name, RTLD_NOLOAD | RTLD_NOW)) return library;
  }
  if (const char* given = ::getenv("PRESERVE_CUPTI"); given != nullptr && *given != '\0') {
    return ::dlopen(given, RTLD_NOW | RTLD_LOCAL);  // a wish: nothing else instead of it
  }
  char own[kPathBytes], packages[kPathBytes] = {};
  own_folder(own, sizeof(own));
  ::dl_iterate_phdr(find_site_packages, packages);
  const char* home = ::getenv("CUDA_HOME");
  const Place places[] = {{own, ""},
                          {packages, "/nvidia/cu13/lib"},
                          {packages, "/nvidia/cuda_cupti/lib"},
                          {home, "/extras/CUPTI/lib64"},
                          {home, "/lib64"},
                          {"/usr/local/cuda", "/extras/CUPTI/lib64"},
                          {"/usr/local/cuda", "/lib64"}};
  // The driver's generation from far away is better than another one close by.
  for (size_t i = 0; i < std::size(kNames); ++i) {
    const char* name = kNames[(first + i) % std::size(kNames)];
    for (const Place& place : places) {
      if (void* library = open_in(place, name)) return library;
    }
    if (void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

}  // namespace preserve::hooks
