// SPDX-License-Identifier: Apache-2.0
#include "examples/tp_decoder/parallel.h"

#include <fmt/format.h>
#include <mpi.h>

#include "examples/tp_decoder/error.h"

namespace tp_decoder {
namespace {

Slice split(int64_t total, int rank, int ranks) {
  return {total * rank / ranks, total * (rank + 1) / ranks};
}

void need_divisible(const ModelConfig& config, const char* key, int64_t value, int ranks) {
  if (value % ranks == 0) return;
  throw Error(
      fmt::format("{}: {} {} cannot be split over {} ranks; start a number of ranks that "
                  "divides it",
                  config.name, key, value, ranks));
}

}  // namespace

Shard make_shard(const ModelConfig& config, int rank, int ranks) {
  need_divisible(config, "num_attention_heads", config.heads, ranks);
  need_divisible(config, "num_key_value_heads", config.kv_heads, ranks);
  if (config.ffn < ranks || config.vocab < ranks) {
    throw Error(
        fmt::format("{}: intermediate_size {} and vocab_size {} must both be at least the "
                    "number of ranks, {}",
                    config.name, config.ffn, config.vocab, ranks));
  }
  return {rank, split(config.heads, rank, ranks), split(config.kv_heads, rank, ranks),
          split(config.ffn, rank, ranks), split(config.vocab, rank, ranks)};
}

Group::Group(int& argc, char**& argv) {
  MPI_Init(&argc, &argv);  // MPI's default error handler ends the job: no return code to check
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks_);
}

Group::~Group() {
  MPI_Finalize();
}

void Group::sum(float* values, int64_t count) const {
  MPI_Allreduce(MPI_IN_PLACE, values, static_cast<int>(count), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

void Group::highest(std::span<Token> tokens) const {
  static_assert(sizeof(Token) == sizeof(float) + sizeof(int));
  MPI_Allreduce(MPI_IN_PLACE, tokens.data(), static_cast<int>(tokens.size()), MPI_FLOAT_INT,
                MPI_MAXLOC, MPI_COMM_WORLD);
}

int64_t Group::sum_on_host(int64_t value) const {
  MPI_Comm host;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
  int64_t total = 0;
  MPI_Allreduce(&value, &total, 1, MPI_INT64_T, MPI_SUM, host);
  MPI_Comm_free(&host);
  return total;
}

std::string Group::first_error(const std::string& error) const {
  int first = error.empty() ? ranks_ : rank_;
  MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  if (first == ranks_) return {};
  int size = static_cast<int>(error.size());
  MPI_Bcast(&size, 1, MPI_INT, first, MPI_COMM_WORLD);
  std::string text = error;
  text.resize(static_cast<size_t>(size));
  MPI_Bcast(text.data(), size, MPI_CHAR, first, MPI_COMM_WORLD);
  return text;
}

}  // namespace tp_decoder
