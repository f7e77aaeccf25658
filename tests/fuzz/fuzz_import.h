// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets of the importers share: an input becomes a file, the file is imported into
// a database in memory, with and without --partial. Error is the only way to refuse an input.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "common/error.h"
#include "profiler/import/import.h"

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

// The length of the input decides between the two ways of import: a bit that costs it nothing.
inline void import_one_way(const std::vector<std::filesystem::path>& files, size_t size) {
  try {
    TraceDb db = TraceDb::create(":memory:");
    import::import_traces({.files = files, .partial = size % 4 != 0}, db);
    db.finish();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::internal) std::abort();
  }
}

}  // namespace preserve::fuzz
