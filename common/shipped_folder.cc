// SPDX-License-Identifier: Apache-2.0
#include "common/shipped_folder.h"

namespace preserve {

std::filesystem::path shipped_folder(std::string_view name) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path bin = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* place : {"../examples", "../../examples", "../share/preserve"}) {
    fs::path folder = (bin / place / name).lexically_normal();
    if (fs::is_directory(folder, error)) return folder;
  }
  return {};
}

}  // namespace preserve
