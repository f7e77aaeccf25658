// SPDX-License-Identifier: Apache-2.0
// Libraries that are used where they are found, and needed nowhere: NCCL, cuBLASLt, NVML.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

namespace preserve::cuda {

struct LibrarySearch {
  std::vector<std::string> sonames;  // best first
  // An environment variable with the path of the library; when set, nothing else is tried.
  std::string variable;
  // Folders below a Python site-packages folder (PRESERVE_SITE_PACKAGES) that may hold it.
  std::vector<std::string> wheel_folders;
};

class SharedLibrary {
 public:
  // In this order: a copy that the process has, the variable, the wheels, the toolkit (CUDA_HOME,
  // /usr/local/cuda), the system. Stays loaded for good: these libraries do not unload well.
  explicit SharedLibrary(const LibrarySearch& search);

  bool found() const { return handle_ != nullptr; }
  const std::string& path() const { return path_; }
  // Why it was not found; a clause for a sentence.
  const std::string& problem() const { return problem_; }

  // An address that becomes a pointer to a function of whatever type.
  struct Symbol {
    void* address = nullptr;
    template <typename Function>
    operator Function*() const {
      return reinterpret_cast<Function*>(address);
    }
  };
  // nullptr when the library has no such function; then it counts as not found.
  Symbol need(const char* name);
  // The first of the names that it has. Nothing is wrong when it has none.
  Symbol find_any(std::initializer_list<const char*> names) const;

 private:
  bool open(const std::string& path, int flags);
  bool open_in(const std::string& folder, const LibrarySearch& search);

  void* handle_ = nullptr;
  std::string path_, problem_;
};

}  // namespace preserve::cuda
