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

  test::TemporaryDirectory folder_;
};

}  // namespace preserve
