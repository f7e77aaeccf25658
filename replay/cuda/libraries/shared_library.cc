// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/libraries/shared_library.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdlib>
#include <filesystem>

#include "common/error.h"

namespace preserve::cuda {
namespace {

namespace fs = std::filesystem;

std::string environment(const std::string& name) {
  const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

std::string loader_error() {
  const char* error = ::dlerror();
  return error == nullptr ? "no reason given" : error;
}

}  // namespace

bool SharedLibrary::open(const std::string& path, int flags) {
  handle_ = ::dlopen(path.c_str(), flags);
  if (handle_ == nullptr) return false;
  path_ = path;
  link_map* map = nullptr;
  if (::dlinfo(handle_, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr && *map->l_name != '\0') {
    path_ = map->l_name;
  }
  return true;
}

bool SharedLibrary::open_in(const std::string& folder, const LibrarySearch& search) {
  for (const std::string& name : search.sonames) {
    const fs::path path = fs::path(folder) / name;
    std::error_code ignored;  // unreadable is as good as absent
    if (fs::exists(path, ignored) && open(path, RTLD_NOW | RTLD_LOCAL)) return true;
  }
  return false;
}

SharedLibrary::SharedLibrary(const LibrarySearch& search) {
  for (const std::string& name : search.sonames) {
    if (open(name, RTLD_NOW | RTLD_NOLOAD)) return;
  }
  if (const std::string given = environment(search.variable); !given.empty()) {
    if (!open(given, RTLD_NOW | RTLD_LOCAL)) {
      problem_ = fmt::format("{} names {}, which cannot be loaded: {}", search.variable, given,
                             loader_error());
    }
    return;
  }
  if (const std::string packages = environment("PRESERVE_SITE_PACKAGES"); !packages.empty()) {
    for (const std::string& folder : search.wheel_folders) {
      if (open_in(packages + "/" + folder, search)) return;
    }
  }
  for (const std::string& root : {environment("CUDA_HOME"), std::string("/usr/local/cuda")}) {
    if (root.empty()) continue;
    for (const char* folder : {"/lib64", "/lib", "/targets/x86_64-linux/lib"}) {
      if (open_in(root + folder, search)) return;
    }
  }
  for (const std::string& name : search.sonames) {
    if (open(name, RTLD_NOW | RTLD_LOCAL)) return;
  }
  problem_ = fmt::format("{} is not on this machine ({})", search.sonames.front(), loader_error());
}

void* SharedLibrary::symbol_if_any(const char* name) const {
  return handle_ == nullptr ? nullptr : ::dlsym(handle_, name);
}

void* SharedLibrary::symbol(const char* name) {
  void* found = symbol_if_any(name);
  if (found == nullptr && handle_ != nullptr) {
    handle_ = nullptr;
    problem_ = fmt::format("{} has no {}: another version is needed", path_, name);
  }
  return found;
}

}  // namespace preserve::cuda
