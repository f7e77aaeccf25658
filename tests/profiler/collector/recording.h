// SPDX-License-Identifier: Apache-2.0
// Runs preserve-profile around a program and opens the trace, for the tests of this folder.
#pragma once

#include <string>
#include <vector>

#include "db/trace_db.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

// Open MPI refuses to run as root without two settings.
inline const std::vector<std::string> kAllowRoot{"OMPI_ALLOW_RUN_AS_ROOT=1",
                                                 "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};
inline const std::string kProfile = PRESERVE_BIN_DIR "/preserve-profile";
inline const std::string kNvtxProgram = PRESERVE_PROGRAM_DIR "/nvtx_program";
inline const std::string kMpiProgram = PRESERVE_PROGRAM_DIR "/mpi_program";

class Recording {
 public:
  // `options` stand before the --.
  explicit Recording(const std::vector<std::string>& command,
                     const std::vector<std::string>& options = {},
                     std::vector<std::string> environment = {}) {
    std::vector<std::string> argv{kProfile, "-o", file()};
    argv.insert(argv.end(), options.begin(), options.end());
    argv.emplace_back("--");
    argv.insert(argv.end(), command.begin(), command.end());
    environment.insert(environment.end(), kAllowRoot.begin(), kAllowRoot.end());
    run = run_program(argv, environment, folder_.path());
  }
  std::string file() const { return (folder_.path() / "trace.db").string(); }
  TraceDb db() const { return TraceDb::open(file()); }
  int64_t number(const std::string& sql) const { return db().query_integer(sql).value_or(-1); }
  // First column of all rows, joined by commas.
  std::string list(const std::string& sql) const {
    const TraceDb trace = db();
    Query rows = trace.query(sql);
    std::string text;
    while (rows.next()) text += (text.empty() ? "" : ",") + std::string(rows.text(0));
    return text;
  }

  Run run;

 private:
  TemporaryDirectory folder_;
};

inline std::vector<std::string> mpirun(int ranks, const std::vector<std::string>& command) {
  std::vector<std::string> argv{"mpirun", "--oversubscribe", "-n", std::to_string(ranks)};
  argv.insert(argv.end(), command.begin(), command.end());
  return argv;
}

}  // namespace preserve::test
