// SPDX-License-Identifier: Apache-2.0
// Records the program that plays CUDA on a fake CUPTI (fake_cupti.h), with the real collector.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/profiler/collector/recording.h"

namespace preserve {

class CudaCollector : public testing::Test {
 protected:
  struct Recorded : test::Recording {
    explicit Recorded(const test::Words& scenario, const test::Words& options = {},
                      const test::Words& environment = {})
        : Recording(test::words(PRESERVE_CUDA_PLAYER, scenario), options,
                    test::words(environment, "PRESERVE_CUPTI=" PRESERVE_FAKE_CUPTI)) {}
    // What the collector says of itself.
    std::vector<std::string> facts() const {
      return rows("SELECT value FROM meta WHERE key LIKE 'cuda_process_%'");
    }
    // What was received and is neither written nor lost.
    int64_t unexplained(const std::string& source) const {
      return number(
          "SELECT IFNULL(SUM(CASE kind WHEN 'received' THEN count ELSE -count END), 0) FROM loss "
          "WHERE source = '" +
          source + "'");
    }
    int64_t kernels() const {
      return count("op JOIN stream ON stream.id = stream_id WHERE stream.kind = 'gpu'");
    }
  };
  // Of a scenario that ends well.
  struct RecordedWell : Recorded {
    explicit RecordedWell(const test::Words& scenario, const test::Words& options = {},
                          const test::Words& environment = {})
        : Recorded(scenario, options, environment) {
      EXPECT_EQ(run.exit_code, 0) << run.err;
    }
  };

  // A program that loads the collector as libcuda would, but no fake library, and ends with 5.
  static test::Run run_injected(const test::Words& environment) {
    return test::Recording({PRESERVE_INJECTED, "5"}, {}, environment).run;
  }

  test::TemporaryDirectory folder_;
};

}  // namespace preserve
