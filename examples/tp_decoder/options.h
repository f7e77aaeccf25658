// SPDX-License-Identifier: Apache-2.0
// The command line, and what it makes of the model's config: how many layers, how much context.
#pragma once

#include <cstdint>
#include <string>

#include "examples/tp_decoder/config.h"
#include "examples/tp_decoder/decoder.h"

namespace CLI {
class App;
}

namespace tp_decoder {

struct Options {
  std::string config;
  int64_t tokens = 64;
  int64_t prompt = 16;
  int64_t batch = 1;
  int64_t layers = 0;
  int64_t max_context = 0;
  uint64_t seed = 1;
  int threads = 1;
  bool shapes_only = false;
  bool print_tokens = false;
};

void define_options(CLI::App& app, Options& options);

// The config, cut to --layers. Throws Error.
ModelConfig cut_config(const Options& options);
// Throws Error when the model's context or a message between ranks cannot hold the text.
RunShape make_run(const Options& options, const ModelConfig& config);

}  // namespace tp_decoder
