// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/libraries/shared_library.h"

#include <dlfcn.h>
#include <link.h>

#include <filesystem>

#include "common/environment.h"
#include "common/error.h"

namespace preserve::cuda {
namespace {

namespace fs = std::filesystem;

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
  if (const std::string given = environment_variable(search.variable); !given.empty()) {
    if (!open(given, RTLD_NOW | RTLD_LOCAL)) {
      problem_ = fmt::format("{} names {}, which cannot be loaded: {}", search.variable, given,
                             loader_error());
    }
    return;
  }
  if (const std::string packages = environment_variable("PRESERVE_SITE_PACKAGES");
      !packages.empty()) {
    for (const std::string& folder : search.wheel_folders) {
      if (open_in(packages + "/" + folder, search)) return;
    }
  }
  for (const std::string& root :
       {environment_variable("CUDA_HOME"), std::string("/usr/local/cuda")}) {
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

SharedLibrary::Symbol SharedLibrary::find_any(std::initializer_list<const char*> names) const {
  void* found = nullptr;
  for (const char* name : names) {
    if (found == nullptr && handle_ != nullptr) found = ::dlsym(handle_, name);
  }
  return {found};
}

SharedLibrary::Symbol SharedLibrary::need(const char* name) {
  const Symbol found = find_any({name});
  if (found.address == nullptr && handle_ != nullptr) {
    handle_ = nullptr;
    problem_ = fmt::format("{} has no {}: another version is needed", path_, name);
  }
  return found;
}

}  // namespace preserve::cuda
