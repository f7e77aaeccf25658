// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets of the importers share: an input becomes a file, the file is imported into
// a database in memory, with and without --partial. Error is the only way to refuse an input.
#pragma once

#include <cstdlib>
#include <vector>

#include "common/error.h"
#include "profiler/import/import.h"
#include "tests/fuzz/fuzz_files.h"

namespace preserve::fuzz {

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
