// SPDX-License-Identifier: Apache-2.0
// A folder for files between two of our processes: no other user can guess its name or enter it,
// and it is gone when this is.
#pragma once

#include <filesystem>
#include <string>

namespace preserve {

class PrivateFolder {
 public:
  // In the folder for temporary files (TMPDIR), "<name>-XXXXXX". input_error when that is
  // impossible.
  explicit PrivateFolder(const std::string& name);
  ~PrivateFolder();
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace preserve
