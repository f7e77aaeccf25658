// SPDX-License-Identifier: Apache-2.0
// Runs preserve-profile around a program and opens the trace, for the tests of this folder.
#pragma once

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "db/trace_db.h"
#include "tests/support/commands.h"
#include "tests/support/paths.h"
#include "tests/support/rows.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

inline const std::string kProfile = PRESERVE_BIN_DIR "/preserve-profile";
inline const std::string kNvtxProgram = PRESERVE_PROGRAM_DIR "/nvtx_program";
inline const std::string kMpiProgram = PRESERVE_PROGRAM_DIR "/mpi_program";

class Recording {
 public:
  // `options` stand before the --.
  explicit Recording(const std::vector<std::string>& command,
                     const std::vector<std::string>& options = {},
                     const std::vector<std::string>& environment = {}) {
    run = run_program(words(kProfile, "-o", file(), options, "--", command),
                      words(environment, kAllowRoot), folder_.path());
  }
  std::string file() const { return (folder_.path() / "trace.db").string(); }
  TraceDb db() const { return TraceDb::open(file()); }
  int64_t number(const std::string& sql) const { return db().query_integer(sql).value_or(-1); }
  std::vector<std::string> rows(const std::string& sql) const { return test::rows(db(), sql); }
  // Joined by commas.
  std::string list(const std::string& sql) const {
    return fmt::format("{}", fmt::join(rows(sql), ","));
  }

  Run run;

 private:
  TemporaryDirectory folder_;
};

// Of a program that ends well.
struct Recorded : Recording {
  explicit Recorded(const std::vector<std::string>& command,
                    const std::vector<std::string>& options = {},
                    const std::vector<std::string>& environment = {})
      : Recording(command, options, environment) {
    EXPECT_EQ(run.exit_code, 0) << run.err;
  }
};

}  // namespace preserve::test
