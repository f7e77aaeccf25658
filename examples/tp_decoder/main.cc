// SPDX-License-Identifier: Apache-2.0
// tp_decoder: decodes random text with a Llama-architecture model split over MPI ranks.
// Order: options and config -> what memory is needed -> load -> prompt -> decode steps -> result.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>

#include "examples/tp_decoder/decoder.h"
#include "examples/tp_decoder/error.h"
#include "examples/tp_decoder/generate.h"
#include "examples/tp_decoder/kernels.h"
#include "examples/tp_decoder/options.h"

namespace tp_decoder {
namespace {

enum ExitCode : int { kDone = 0, kBadInput = 2 };

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
  if (options.print_tokens) {
    const auto batch = static_cast<size_t>(options.batch);
    for (size_t i = 0; i < result.tokens.size(); ++i) {
      fmt::print("token: step {} sequence {} id {} logit {:.9g}\n", i / batch, i % batch,
                 result.tokens[i].id, static_cast<double>(result.tokens[i].logit));
    }
  }
  std::vector<double> sorted = result.steps_s;
  std::ranges::sort(sorted);
  double total_s = 0;
  for (const double seconds : sorted) total_s += seconds;
  const double median_s = (sorted[sorted.size() / 2] + sorted[(sorted.size() - 1) / 2]) / 2;
  fmt::print("prefill: {:.3f} ms\n", result.prefill_s * 1e3);
  fmt::print("tokens/s: {:.2f}\n", static_cast<double>(options.tokens * options.batch) / total_s);
  fmt::print("median step: {:.3f} ms\n", median_s * 1e3);
  fmt::print("checksum: {:016x}\n", checksum(result.tokens));
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
