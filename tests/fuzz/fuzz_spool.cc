// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a spool file: the converter gives a trace whose losses add up, or an input
// error, never anything else.
#include "common/error.h"
#include "profiler/convert/convert.h"
#include "tests/fuzz/fuzz_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto spool = preserve::fuzz::input_file(".spool"),
                    trace = preserve::fuzz::input_file(".db");
  preserve::fuzz::write_file(spool, data, size);
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
