// SPDX-License-Identifier: Apache-2.0
#include "examples/tp_decoder/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "examples/tp_decoder/kernels.h"

namespace tp_decoder {
namespace {

Module layer_module(int64_t layer, const char* path) {
  return Module(fmt::format("layers.{}.{}", layer, path));
}

}  // namespace

Decoder::LayerModules::LayerModules(int64_t index)
    : attn_norm(layer_module(index, "attn.norm")),
      qkv(layer_module(index, "attn.qkv")),
      rope(layer_module(index, "attn.rope")),
      core(layer_module(index, "attn.core")),
      o_proj(layer_module(index, "attn.o_proj")),
      attn_allreduce(layer_module(index, "attn.allreduce")),
      mlp_norm(layer_module(index, "mlp.norm")),
      gate_up(layer_module(index, "mlp.gate_up")),
      act(layer_module(index, "mlp.act")),
      down(layer_module(index, "mlp.down")),
      mlp_allreduce(layer_module(index, "mlp.allreduce")) {}

Decoder::Decoder(const ModelConfig& config, const Shard& shard, const RunShape& run,
                 const Group& group)
    : config_(config),
      shard_(shard),
      run_(run),
      group_(group),
      weights_(config, shard),
      kv_(config, shard, run.batch, run.max_context),
      q_floats_(shard.heads.size() * config.head_dim),
      qkv_floats_(q_floats_ + 2 * kv_.row_floats()),
      embed_("embed"),
      embed_allreduce_("embed.allreduce"),
      final_norm_("final_norm"),
      lm_head_("lm_head"),
      sample_("sample"),
      sample_allreduce_("sample.allreduce"),
      chosen_(static_cast<size_t>(run.batch)) {
  for (int64_t i = 0; i < config.layers; ++i) modules_.emplace_back(i);
  reserve_activations();
}

void Decoder::reserve_activations() {
  const int64_t rows = run_.max_rows;
  const int64_t group_size = config_.heads / config_.kv_heads;
  activations_.reserve("residual", rows * config_.hidden, &residual_);
  activations_.reserve("delta", rows * config_.hidden, &delta_);
  activations_.reserve("normed", rows * config_.hidden, &normed_);
  activations_.reserve("qkv", rows * qkv_floats_, &qkv_);
  activations_.reserve("attended", rows * q_floats_, &attended_);
  activations_.reserve("gate_up", rows * 2 * shard_.ffn.size(), &gate_up_);
  activations_.reserve("act", rows * shard_.ffn.size(), &act_);
  activations_.reserve("scores", group_size * run_.max_context, &scores_);
  activations_.reserve("logits", run_.batch * shard_.vocab.size(), &logits_);
  activations_.reserve("cosine", run_.max_context * config_.head_dim / 2, &cosine_);
  activations_.reserve("sine", run_.max_context * config_.head_dim / 2, &sine_);
}

void Decoder::load(uint64_t seed) {
  weights_.load(seed);
  kv_.allocate();
  activations_.allocate();
  fill_rope_tables();
}

void Decoder::fill_rope_tables() {
  const int64_t half = config_.head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config_.head_dim);
    const double frequency = std::pow(config_.rope_theta, exponent);
    for (int64_t position = 0; position < run_.max_context; ++position) {
      const double angle = static_cast<double>(position) * frequency;
      cosine_[position * half + i] = static_cast<float>(std::cos(angle));
      sine_[position * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

std::span<const Token> Decoder::step(std::span<const int32_t> tokens) {
  const auto rows = static_cast<int64_t>(tokens.size());
  kv_.grow(position_ + rows / run_.batch);
  embed(tokens);
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    attention(layer, rows);
    mlp(layer, rows);
  }
  position_ += rows / run_.batch;
  choose(rows);
  return chosen_;
}

// Each rank holds some rows of the table; the others contribute zeros to the sum.
void Decoder::embed(std::span<const int32_t> tokens) {
  const int64_t hidden = config_.hidden;
  const auto rows = static_cast<int64_t>(tokens.size());
  {
    Scope scope(embed_);
    std::fill_n(residual_, rows * hidden, 0.0f);
    std::fill_n(delta_, rows * hidden, 0.0f);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t token = tokens[static_cast<size_t>(row)];
      if (token < shard_.vocab.begin || token >= shard_.vocab.end) continue;
      std::copy_n(weights_.embed() + (token - shard_.vocab.begin) * hidden, hidden,
                  delta_ + row * hidden);
    }
  }
  Scope scope(embed_allreduce_);
  group_.sum(delta_, rows * hidden);
}

void Decoder::attention(int64_t layer, int64_t rows) {
  const LayerModules& module = modules_[static_cast<size_t>(layer)];
  const LayerWeights& weight = weights_.layer(layer);
  const int64_t hidden = config_.hidden;
  {
    Scope scope(module.attn_norm);
    add_rms_norm(residual_, delta_, weight.attn_norm, config_.norm_eps, rows, hidden, normed_);
  }
  {
    Scope scope(module.qkv);
    linear(normed_, weight.qkv, weight.qkv_bias, rows, hidden, qkv_floats_, qkv_);
  }
  {
    Scope scope(module.rope);
    rotate(rows);
  }
  {
    Scope scope(module.core);
    attention_core(layer, rows);
  }
  {
    Scope scope(module.o_proj);
    linear(attended_, weight.o_proj, weight.o_bias, rows, q_floats_, hidden, delta_);
  }
  Scope scope(module.attn_allreduce);
  group_.sum(delta_, rows * hidden);
}

// Queries and keys lie side by side, so their heads rotate in one go.
void Decoder::rotate(int64_t rows) {
  const int64_t half = config_.head_dim / 2;
  const int64_t heads = shard_.heads.size() + shard_.kv_heads.size();
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t angles = (position_ + row / run_.batch) * half;
    rope(qkv_ + row * qkv_floats_, cosine_ + angles, sine_ + angles, heads, config_.head_dim);
  }
}

void Decoder::attention_core(int64_t layer, int64_t rows) {
  const KvCache::Layer& cache = kv_.layer(layer);
  const int64_t kv_floats = kv_.row_floats();
  const int64_t head_dim = config_.head_dim;
  const int64_t group_size = config_.heads / config_.kv_heads;
  for (int64_t row = 0; row < rows; ++row) {
    const float* new_keys = qkv_ + row * qkv_floats_ + q_floats_;
    const int64_t at = position_ * kv_.token_floats() + row * kv_floats;
    std::copy_n(new_keys, kv_floats, cache.keys + at);
    std::copy_n(new_keys + kv_floats, kv_floats, cache.values + at);
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t sequence = row % run_.batch;
    const int64_t visible = position_ + row / run_.batch + 1;  // causal: itself and those before
    for (int64_t head = 0; head < shard_.kv_heads.size(); ++head) {
      const int64_t at = sequence * kv_floats + head * head_dim;
      const int64_t queries = head * group_size * head_dim;
      attend({qkv_ + row * qkv_floats_ + queries, cache.keys + at, cache.values + at,
              kv_.token_floats(), group_size, head_dim, visible},
             scores_, attended_ + row * q_floats_ + queries);
    }
  }
}

void Decoder::mlp(int64_t layer, int64_t rows) {
  const LayerModules& module = modules_[static_cast<size_t>(layer)];
  const LayerWeights& weight = weights_.layer(layer);
  const int64_t hidden = config_.hidden;
  const int64_t ffn = shard_.ffn.size();
  {
    Scope scope(module.mlp_norm);
    add_rms_norm(residual_, delta_, weight.mlp_norm, config_.norm_eps, rows, hidden, normed_);
  }
  {
    Scope scope(module.gate_up);
    linear(normed_, weight.gate_up, nullptr, rows, hidden, 2 * ffn, gate_up_);
  }
  {
    Scope scope(module.act);
    swiglu(gate_up_, rows, ffn, act_);
  }
  {
    Scope scope(module.down);
    linear(act_, weight.down, nullptr, rows, ffn, hidden, delta_);
  }
  Scope scope(module.mlp_allreduce);
  group_.sum(delta_, rows * hidden);
}

// Only the last token of each sequence is followed by a new one.
void Decoder::choose(int64_t rows) {
  const int64_t hidden = config_.hidden;
  const int64_t vocab = shard_.vocab.size();
  const int64_t last = (rows - run_.batch) * hidden;
  {
    Scope scope(final_norm_);
    add_rms_norm(residual_ + last, delta_ + last, weights_.final_norm(), config_.norm_eps,
                 run_.batch, hidden, normed_);
  }
  {
    Scope scope(lm_head_);
    linear(normed_, weights_.lm_head(), nullptr, run_.batch, hidden, vocab, logits_);
  }
  {
    Scope scope(sample_);
    for (size_t i = 0; i < chosen_.size(); ++i) {
      const float* logits = logits_ + static_cast<int64_t>(i) * vocab;
      const int64_t best = std::max_element(logits, logits + vocab) - logits;
      chosen_[i] = {logits[best], static_cast<int32_t>(shard_.vocab.begin + best)};
    }
  }
  Scope scope(sample_allreduce_);
  group_.highest(chosen_);
}

}  // namespace tp_decoder
