// SPDX-License-Identifier: Apache-2.0
// Runs the real tp_decoder binary for the tests and reads what it prints.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/synthetic_trace.h"

namespace tp_decoder::test {

// A model of two layers small enough for a reference in double precision; every size differs from
// every other, so that a mix-up of dimensions shows.
nlohmann::json tiny_config();

// Runs with `ranks` ranks under mpirun, or without mpirun when 0; all of it under `wrapper`.
preserve::test::Run run_decoder(int ranks, const std::vector<std::string>& arguments,
                                const std::vector<std::string>& environment = {},
                                const std::vector<std::string>& wrapper = {});

// The text after "KEY: " on the line that starts with it; fails the test when there is none.
std::string value_of(const preserve::test::Run& run, const std::string& key);

struct PrintedToken {
  int64_t step, sequence, id;
  double logit;
};
std::vector<PrintedToken> printed_tokens(const preserve::test::Run& run);

// Writes `config` to `directory`/NAME and returns the path.
std::string write_config(const preserve::test::TemporaryDirectory& directory,
                         const nlohmann::json& config, const char* name = "tiny.json");

}  // namespace tp_decoder::test
