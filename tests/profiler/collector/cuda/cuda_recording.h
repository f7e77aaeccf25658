// SPDX-License-Identifier: Apache-2.0
// Records the program that plays CUDA on a fake CUPTI (fake_cupti.h), with the real collector.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/commands.h"
#include "tests/support/paths.h"
#include "tests/support/rows.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {

class CudaCollector : public testing::Test {
 protected:
  struct Recorded : test::TraceFile {
    test::Run run;
    // What the collector says of itself.
    std::vector<std::string> facts() const {
      return rows("SELECT value FROM meta WHERE key LIKE 'cuda_process_%'");
    }
    int64_t kernels() const {
      return count("op JOIN stream ON stream.id = stream_id WHERE stream.kind = 'gpu'");
    }
  };

  Recorded record(const std::vector<std::string>& scenario,
                  const std::vector<std::string>& options = {},
                  const std::vector<std::string>& environment = {}) {
    Recorded recorded;
    recorded.trace = folder_ / "trace.db";
    std::filesystem::remove(recorded.trace);  // nothing of an earlier run is taken for this one's
    recorded.run = test::run_program(
        test::words(PRESERVE_BIN_DIR "/preserve-profile", "-f", "-o", recorded.trace, options, "--",
                    PRESERVE_CUDA_PLAYER, scenario),
        test::words(environment, "PRESERVE_CUPTI=" PRESERVE_FAKE_CUPTI));
    return recorded;
  }

  Recorded record_well(const std::vector<std::string>& scenario,
                       const std::vector<std::string>& options = {},
                       const std::vector<std::string>& environment = {}) {
    Recorded recorded = record(scenario, options, environment);
    EXPECT_EQ(recorded.run.exit_code, 0) << recorded.run.err;
    return recorded;
  }

  // A program that loads the collector as libcuda would, but no fake library, and ends with 5.
  test::Run record_injected(const std::vector<std::string>& environment) const {
    return test::run_program({PRESERVE_BIN_DIR "/preserve-profile", "-o", folder_ / "injected.db",
                              "--", PRESERVE_INJECTED, "5"},
                             environment);
  }

  test::TemporaryDirectory folder_;
};

}  // namespace preserve
