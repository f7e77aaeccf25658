// SPDX-License-Identifier: Apache-2.0
#include "examples/tp_decoder/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <limits>

#include "examples/tp_decoder/error.h"

namespace tp_decoder {
namespace {

constexpr const char* kFooter =
    R"(Prints on rank 0: the model, tokens/s of the decode steps, the median step, and a checksum of all
token ids. Weights are random, drawn from --seed; every number of ranks computes the same model.

Examples:
  mpirun -n 2 tp_decoder --config examples/models/stories42m.json
  mpirun -n 4 tp_decoder --config examples/models/llama3-8b.json --layers 4 --tokens 16

Exit codes: 0 done, 2 wrong options, config or not enough memory.)";

}  // namespace

void define_options(CLI::App& app, Options& options) {
  constexpr int64_t kMost = 1 << 24;
  app.footer(kFooter);
  app.add_option("--config", options.config, "Hugging Face config.json of the model")->required();
  app.add_option("--tokens", options.tokens, "decode steps; each gives one token per sequence")
      ->check(CLI::Range(int64_t{1}, kMost))
      ->capture_default_str();
  app.add_option("--prompt", options.prompt, "tokens of the random prompt of each sequence")
      ->check(CLI::Range(int64_t{1}, kMost))
      ->capture_default_str();
  app.add_option("--batch", options.batch, "sequences decoded together")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--layers", options.layers, "use only the first N layers (default: all)")
      ->check(CLI::Range(int64_t{1}, kMost));
  app.add_option("--max-context", options.max_context,
                 "tokens to reserve KV-cache for (default: prompt + tokens)")
      ->check(CLI::Range(int64_t{1}, kMost));
  app.add_option("--seed", options.seed, "of weights and prompt")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--threads", options.threads, "BLAS threads of each rank")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_flag("--shapes-only", options.shapes_only,
               "run a model with other blocks than Llama as one with the same matrix shapes");
  app.add_flag("--print-tokens", options.print_tokens, "print each token id and its logit");
}

ModelConfig cut_config(const Options& options) {
  ModelConfig config = load_config(options.config, options.shapes_only);
  if (options.layers > config.layers) {
    throw Error(
        fmt::format("--layers {}: {} has only {}", options.layers, config.name, config.layers));
  }
  if (options.layers != 0) config.layers = options.layers;
  return config;
}

RunShape make_run(const Options& options, const ModelConfig& config) {
  constexpr int64_t kMaxCachedTokens = 1 << 24;  // keeps every size below 2^63
  const int64_t length = options.prompt + options.tokens;
  const RunShape run{options.batch, options.max_context != 0 ? options.max_context : length,
                     options.batch * options.prompt};
  if (run.max_context < length) {
    throw Error(fmt::format("--max-context {}: prompt and decode steps need {} tokens",
                            run.max_context, length));
  }
  if (run.max_context > config.max_context) {
    throw Error(
        fmt::format("{} tokens of context: {} allows {} (max_position_embeddings, "
                    "sliding_window); lower --prompt, --tokens or --max-context",
                    run.max_context, config.name, config.max_context));
  }
  if (run.max_context * run.batch > kMaxCachedTokens ||
      run.max_rows * config.hidden > std::numeric_limits<int>::max()) {
    throw Error("--batch times the context is too large; lower --batch, --prompt or --max-context");
  }
  return run;
}

}  // namespace tp_decoder
