// SPDX-License-Identifier: Apache-2.0
// tp_decoder: decodes random text with a Llama-architecture model split over MPI ranks.
// Order: options and config -> what memory is needed -> load -> prompt -> decode steps -> result.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "examples/tp_decoder/decoder.h"
#include "examples/tp_decoder/error.h"
#include "examples/tp_decoder/kernels.h"

namespace tp_decoder {
namespace {

enum ExitCode : int { kDone = 0, kBadInput = 2 };

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

constexpr const char* kFooter =
    R"(Prints on rank 0: the model, tokens/s of the decode steps, the median step, and a checksum of all
token ids. Weights are random, drawn from --seed; every number of ranks computes the same model.

Examples:
  mpirun -n 2 tp_decoder --config examples/models/stories42m.json
  mpirun -n 4 tp_decoder --config examples/models/llama3-8b.json --layers 4 --tokens 16

Exit codes: 0 done, 2 wrong options, config or not enough memory.)";

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
               "run a model that is no Llama block as one of the same matrix shapes");
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

double gib(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 30);
}
double mib(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

int64_t memory_bytes(const Decoder& decoder) {
  return decoder.weight_bytes() + decoder.kv_bytes() + decoder.activation_bytes();
}

void check_memory(int64_t needed_on_host) {
  const int64_t available = available_memory_bytes();
  if (needed_on_host <= available) return;
  throw Error(
      fmt::format("not enough memory: the ranks on this machine need {:.2f} GiB, {:.2f} GiB "
                  "are available; lower --layers, --max-context or --batch",
                  gib(needed_on_host), gib(available)));
}

std::vector<int32_t> random_prompt(const Options& options, int64_t vocab) {
  const int64_t count = options.prompt * options.batch;
  std::vector<float> uniform(static_cast<size_t>(count));
  draw(uniform.data(), options.seed, "prompt", {0, 1}, {0, count}, 0.5f, 0.5f);
  std::vector<int32_t> tokens;
  for (const float value : uniform) {
    const auto id = static_cast<int64_t>(static_cast<double>(value) * static_cast<double>(vocab));
    tokens.push_back(static_cast<int32_t>(std::clamp<int64_t>(id, 0, vocab - 1)));
  }
  return tokens;
}

// FNV-1a over the ids in order: two texts that differ in one token or in order differ here.
uint64_t checksum(const std::vector<int32_t>& ids) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ ((static_cast<uint32_t>(id) >> shift) & 0xff)) * 0x100000001b3;
    }
  }
  return hash;
}

struct Result {
  double prefill_s = 0;
  std::vector<double> steps_s;
  std::vector<Token> tokens;  // [step][sequence], the prompt's successor first
};

// One step as the user of an engine sees it; returns the ids to continue with.
std::vector<int32_t> timed_step(Decoder& decoder, const Module& name,
                                const std::vector<int32_t>& tokens, double& seconds,
                                Result& result) {
  const auto start = std::chrono::steady_clock::now();
  std::span<const Token> chosen;
  {
    Scope scope(name);
    chosen = decoder.step(tokens);
  }
  seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::vector<int32_t> ids;
  for (const Token& token : chosen) {
    ids.push_back(token.id);
    result.tokens.push_back(token);
  }
  return ids;
}

Result generate(Decoder& decoder, const Options& options, int64_t vocab) {
  const Module prefill_step("prefill_step"), decode_step("decode_step");
  Result result;
  result.steps_s.resize(static_cast<size_t>(options.tokens));
  std::vector<int32_t> ids =
      timed_step(decoder, prefill_step, random_prompt(options, vocab), result.prefill_s, result);
  for (double& seconds : result.steps_s) {
    ids = timed_step(decoder, decode_step, ids, seconds, result);
  }
  return result;
}

void print_summary(const Options& options, const ModelConfig& config, const RunShape& run,
                   const Decoder& decoder, int ranks) {
  fmt::print(
      "model: {} ({}{}), {} layers, hidden {}, {} heads, {} kv heads of {}, ffn {}, vocab {}\n",
      config.name, config.family, config.family == "phi3small" ? ", shapes only" : "",
      config.layers, config.hidden, config.heads, config.kv_heads, config.head_dim, config.ffn,
      config.vocab);
  fmt::print("run: {} ranks, {} BLAS threads each, batch {}, prompt {}, decode steps {}, seed {}\n",
             ranks, options.threads, run.batch, options.prompt, options.tokens, options.seed);
  fmt::print("memory per rank: weights {:.1f} MiB, kv cache {:.1f} MiB, activations {:.1f} MiB\n",
             mib(decoder.weight_bytes()), mib(decoder.kv_bytes()), mib(decoder.activation_bytes()));
  std::fflush(stdout);
}

void print_result(const Options& options, const Result& result) {
  std::vector<int32_t> ids;
  for (const Token& token : result.tokens) ids.push_back(token.id);
  if (options.print_tokens) {
    const auto batch = static_cast<size_t>(options.batch);
    for (size_t i = 0; i < result.tokens.size(); ++i) {
      fmt::print("token: step {} sequence {} id {} logit {:.6f}\n", i / batch, i % batch,
                 result.tokens[i].id, static_cast<double>(result.tokens[i].logit));
    }
  }
  std::vector<double> sorted = result.steps_s;
  std::sort(sorted.begin(), sorted.end());
  double total_s = 0;
  for (const double seconds : sorted) total_s += seconds;
  const double median_s = (sorted[sorted.size() / 2] + sorted[(sorted.size() - 1) / 2]) / 2;
  fmt::print("prefill: {:.3f} ms\n", result.prefill_s * 1e3);
  fmt::print("tokens/s: {:.2f}\n", static_cast<double>(options.tokens * options.batch) / total_s);
  fmt::print("median step: {:.3f} ms\n", median_s * 1e3);
  fmt::print("checksum: {:016x}\n", checksum(ids));
}

// Runs one stage on every rank; false, with one message for all, when it failed on any.
bool stage(const Group& group, const std::function<void()>& body) {
  std::string error;
  try {
    body();
  } catch (const Error& caught) {
    error = caught.what();
  }
  error = group.first_error(error);
  if (!error.empty() && group.rank() == 0) {
    fmt::print(stderr, "tp_decoder: error: {}\n", error);
  }
  return error.empty();
}

int run_decoder(const Options& options, const Group& group) {
  ModelConfig config;
  Shard shard;
  RunShape run;
  const bool understood = stage(group, [&] {
    config = cut_config(options);
    shard = make_shard(config, group.rank(), group.ranks());
    run = make_run(options, config);
  });
  if (!understood) return kBadInput;

  set_blas_threads(options.threads);
  Decoder decoder(config, shard, run, group);
  const int64_t needed_on_host = group.sum_on_host(memory_bytes(decoder));
  if (group.rank() == 0) print_summary(options, config, run, decoder, group.ranks());
  if (!stage(group, [&] { check_memory(needed_on_host); })) return kBadInput;
  if (!stage(group, [&] { decoder.load(options.seed); })) return kBadInput;

  const Result result = generate(decoder, options, config.vocab);
  if (group.rank() == 0) print_result(options, result);
  return kDone;
}

int run_main(int argc, char** argv) {
  const Group group(argc, argv);
  CLI::App app("Decodes random text with a tensor-parallel Llama model over MPI", "tp_decoder");
  Options options;
  define_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked_for_help = error.get_exit_code() == 0;
    if (group.rank() == 0) app.exit(error);
    return asked_for_help ? kDone : kBadInput;
  }
  return run_decoder(options, group);
}

}  // namespace
}  // namespace tp_decoder

int main(int argc, char** argv) {
  return tp_decoder::run_main(argc, argv);
}
