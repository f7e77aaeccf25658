// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a spool file: the converter gives a trace whose losses add up, or an input
// error, never anything else.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "common/error.h"
#include "profiler/convert/convert.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path();
  const std::string stem = "preserve-fuzz-spool-" + std::to_string(getpid());
  const std::filesystem::path spool = folder / (stem + ".spool"), trace = folder / (stem + ".db");
  std::ofstream(spool, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  std::filesystem::remove(trace);
  try {
    preserve::TraceDb db = preserve::TraceDb::create(trace);
    preserve::convert_spools({spool}, db);
    const auto wrong = db.query_integer(
        "SELECT COUNT(*) FROM (SELECT 1 FROM loss WHERE source IN ('nvtx', 'mpi', 'cuda_calls') "
        "GROUP BY source HAVING MIN(count) < 0 OR "
        "SUM(CASE kind WHEN 'received' THEN count ELSE -count END) <> 0)");
    if (wrong != 0) std::abort();
    db.finish();
  } catch (const preserve::Error& error) {
    if (error.kind() != preserve::ErrorKind::input) std::abort();
  }
  std::filesystem::remove(spool);
  std::filesystem::remove(trace);
  return 0;
}
