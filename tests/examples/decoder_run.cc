// SPDX-License-Identifier: Apache-2.0
#include "tests/examples/decoder_run.h"
#include "tests/support/commands.h"
#include "tests/support/paths.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>

namespace tp_decoder::test {

using preserve::test::Run;
using preserve::test::words;

nlohmann::json tiny_config() {
  return {{"model_type", "llama"},    {"hidden_size", 48},        {"num_hidden_layers", 2},
          {"num_attention_heads", 8}, {"num_key_value_heads", 4}, {"head_dim", 10},
          {"intermediate_size", 70},  {"vocab_size", 101},        {"max_position_embeddings", 100},
          {"rms_norm_eps", 1e-5},     {"rope_theta", 500.0},      {"tie_word_embeddings", false}};
}

Run run_decoder(int ranks, const std::vector<std::string>& arguments,
                const std::vector<std::string>& environment,
                const std::vector<std::string>& wrapper) {
  std::vector<std::string> launcher;
  if (ranks > 0) {
    // Quiet, more ranks than cores, and no pinning: tests share the machine.
    launcher = {"mpirun", "-q", "--oversubscribe",    "--bind-to",
                "none",   "-n", std::to_string(ranks)};
  }
  return preserve::test::run_program(
      words(wrapper, launcher, PRESERVE_BIN_DIR "/tp_decoder", arguments),
      words(environment, preserve::test::kMpi));
}

std::string value_of(const Run& run, const std::string& key) {
  std::istringstream lines(run.out);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(key + ": ", 0) == 0) return line.substr(key.size() + 2);
  }
  ADD_FAILURE() << "no line '" << key << ": ' in\n" << run.out << run.err;
  return {};
}

std::vector<PrintedToken> printed_tokens(const Run& run) {
  std::vector<PrintedToken> tokens;
  std::istringstream lines(run.out);
  for (std::string line; std::getline(lines, line);) {
    long long step = 0, sequence = 0, id = 0;
    double logit = 0;
    if (std::sscanf(line.c_str(), "token: step %lld sequence %lld id %lld logit %lf", &step,
                    &sequence, &id, &logit) == 4) {
      tokens.push_back({step, sequence, id, logit});
    }
  }
  return tokens;
}

std::string write_config(const preserve::test::TemporaryDirectory& directory,
                         const nlohmann::json& config, const char* name) {
  std::string path = directory / name;
  std::ofstream(path) << config.dump(2);
  return path;
}

}  // namespace tp_decoder::test
