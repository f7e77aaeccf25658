// SPDX-License-Identifier: Apache-2.0
// Inputs of fuzz targets as files.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace preserve::fuzz {

// A file of this process for one input, in memory where the system has /dev/shm.
inline std::filesystem::path input_file(const char* suffix) {
  const std::filesystem::path folder =
      std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
  return folder / ("preserve_fuzz_" + std::to_string(getpid()) + suffix);
}

inline void write_file(const std::filesystem::path& path, const void* data, size_t size) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) std::abort();
  if (size != 0) std::fwrite(data, 1, size, file);
  std::fclose(file);
}

}  // namespace preserve::fuzz
