// SPDX-License-Identifier: Apache-2.0
// Runs preserve-profile around a program and opens the trace, for the tests of this folder.
#pragma once

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/commands.h"
#include "tests/support/paths.h"
#include "tests/support/rows.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

inline const std::string kProfile = PRESERVE_BIN_DIR "/preserve-profile";
inline const std::string kNvtxProgram = PRESERVE_PROGRAM_DIR "/nvtx_program";
inline const std::string kMpiProgram = PRESERVE_PROGRAM_DIR "/mpi_program";

class Recording : public TraceFile {
 public:
  // `options` stand before the --.
  explicit Recording(const std::vector<std::string>& command,
                     const std::vector<std::string>& options = {},
                     const std::vector<std::string>& environment = {}) {
    trace = folder_ / "trace.db";
    run = run_program(words(kProfile, "-o", trace, options, "--", command),
                      words(environment, kAllowRoot), folder_.path());
  }
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
