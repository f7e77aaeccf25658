// SPDX-License-Identifier: Apache-2.0
#include "common/private_folder.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>

#include "common/error.h"

namespace preserve {

std::filesystem::path temporary_folder() {
  std::error_code error;
  std::filesystem::path place = std::filesystem::temp_directory_path(error);
  if (!error) place = std::filesystem::canonical(place, error);
  if (!error) return place;
  throw input_error("no folder for temporary files: {}; set TMPDIR to one that can be written",
                    error.message());
}

PrivateFolder::PrivateFolder(const std::string& name, const std::filesystem::path& place) {
  std::string pattern = (place / (name + "-XXXXXX")).string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    throw input_error("cannot create a folder in {}: {}; set TMPDIR to one that can be written",
                      place.string(), std::strerror(errno));
  }
  path_ = pattern;
}

PrivateFolder::~PrivateFolder() {
  std::error_code ignored;  // what remains is a little in the folder for temporary files
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace preserve
