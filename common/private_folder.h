// SPDX-License-Identifier: Apache-2.0
// A folder for files between two of our processes: no other user can guess its name or enter it,
// and it is gone when this is.
#pragma once

#include <filesystem>
#include <string>

#include "common/no_copy.h"

namespace preserve {

// The folder for temporary files (TMPDIR), an absolute path. input_error when there is none.
std::filesystem::path temporary_folder();

class PrivateFolder : NoCopy {
 public:
  // "<name>-XXXXXX" in `place`. input_error when that is impossible.
  explicit PrivateFolder(const std::string& name,
                         const std::filesystem::path& place = temporary_folder());
  ~PrivateFolder();

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace preserve
