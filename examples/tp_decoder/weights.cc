// SPDX-License-Identifier: Apache-2.0
#include "examples/tp_decoder/weights.h"

#include <fmt/format.h>

#include <cmath>
#include <string>

namespace tp_decoder {
namespace {

// Steps of two well-known mixers: splitmix64 for a row's key, the 32-bit finaliser of MurmurHash3
// per element, because 32-bit multiplications vectorise.
uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint32_t mix32(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x85ebca6b;
  x = (x ^ (x >> 13)) * 0xc2b2ae35;
  return x ^ (x >> 16);
}

uint64_t hash_name(std::string_view name) {
  uint64_t hash = 0;
  for (const char c : name) hash = mix64(hash ^ static_cast<unsigned char>(c));
  return hash;
}

// With inputs of variance 1 the outputs have variance 1 too, so activations stay finite at any
// width: a uniform variable in +-a has the variance a*a/3.
float unit_gain(int64_t inputs) {
  return std::sqrt(3.0f / static_cast<float>(inputs));
}

// A tied table weaker than this hardly passes the last token on; a stronger one makes every token
// choose itself, and the text repeats one token for ever.
constexpr float kTiedGain = 2;
constexpr float kNormSpread = 0.1f;
constexpr float kBiasSpread = 0.1f;

Slice scaled(Slice slice, int64_t factor) {
  return {slice.begin * factor, slice.end * factor};
}

}  // namespace

void draw(float* out, uint64_t seed, std::string_view name, Slice rows, Slice cols, float spread,
          float mean) {
  const uint64_t matrix = mix64(seed ^ hash_name(name));
  const float scale = spread * 0x1p-31f;
  for (int64_t row = rows.begin; row < rows.end; ++row, out += cols.size()) {
    const uint64_t key = mix64(matrix ^ static_cast<uint64_t>(row));
    const auto low = static_cast<uint32_t>(key);
    const auto high = static_cast<uint32_t>(key >> 32);
    for (int64_t i = 0; i < cols.size(); ++i) {
      const auto col = static_cast<uint32_t>(cols.begin + i);
      const auto bits = static_cast<int32_t>(mix32(mix32(col ^ low) + high));
      out[i] = mean + scale * static_cast<float>(bits);
    }
  }
}

Weights::Weights(const ModelConfig& config, const Shard& shard)
    : config_(config), shard_(shard), layers_(static_cast<size_t>(config.layers)) {
  const int64_t hidden = config.hidden;
  const int64_t q_rows = shard.heads.size() * config.head_dim;
  const int64_t kv_rows = shard.kv_heads.size() * config.head_dim;
  const int64_t qkv_rows = q_rows + 2 * kv_rows;
  // A look-up reads one row of the table, not all of it. Its name deliberately does not fall under
  // the range "embed", so that no tool takes the whole table for that module's traffic. As the
  // output matrix of a tied model it is read in full, and named so.
  slab_.reserve(config.tied_embeddings ? "lm_head.weight" : "embed_tokens.weight",
                shard.vocab.size() * hidden, &embed_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    LayerWeights& layer = layers_[i];
    const std::string attn = fmt::format("layers.{}.attn.", i);
    const std::string mlp = fmt::format("layers.{}.mlp.", i);
    slab_.reserve(attn + "norm.weight", hidden, &layer.attn_norm);
    slab_.reserve(attn + "qkv.weight", qkv_rows * hidden, &layer.qkv);
    if (config.qkv_bias) slab_.reserve(attn + "qkv.bias", qkv_rows, &layer.qkv_bias);
    slab_.reserve(attn + "o_proj.weight", hidden * q_rows, &layer.o_proj);
    if (config.o_bias && shard.rank == 0)
      slab_.reserve(attn + "o_proj.bias", hidden, &layer.o_bias);
    slab_.reserve(mlp + "norm.weight", hidden, &layer.mlp_norm);
    slab_.reserve(mlp + "gate_up.weight", 2 * shard.ffn.size() * hidden, &layer.gate_up);
    slab_.reserve(mlp + "down.weight", hidden * shard.ffn.size(), &layer.down);
  }
  slab_.reserve("final_norm.weight", hidden, &final_norm_);
  if (!config.tied_embeddings) {
    slab_.reserve("lm_head.weight", shard.vocab.size() * hidden, &lm_head_);
  }
}

void Weights::load(uint64_t seed) {
  slab_.allocate();
  const Slice hidden{0, config_.hidden};
  const float output_gain = unit_gain(config_.hidden);
  draw(embed_, seed, "embed_tokens", shard_.vocab, hidden,
       config_.tied_embeddings ? kTiedGain * output_gain : unit_gain(1));
  for (int64_t i = 0; i < config_.layers; ++i) draw_layer(seed, i);
  draw(final_norm_, seed, "final_norm", {0, 1}, hidden, kNormSpread, 1);
  if (!config_.tied_embeddings) draw(lm_head_, seed, "lm_head", shard_.vocab, hidden, output_gain);

  register_regions(register_heap("weights", slab_.base(), static_cast<size_t>(slab_.bytes())),
                   slab_.regions());
}

// Outputs of q, k, v, gate and up are split over the ranks (rows); o_proj and down take those as
// inputs, so there the columns are split, and the ranks' results must be added up.
void Weights::draw_layer(uint64_t seed, int64_t index) {
  LayerWeights& layer = layers_[static_cast<size_t>(index)];
  const Slice hidden{0, config_.hidden};
  const float gain = unit_gain(config_.hidden);
  const std::string attn = fmt::format("layers.{}.attn.", index);
  const std::string mlp = fmt::format("layers.{}.mlp.", index);
  const Slice q = scaled(shard_.heads, config_.head_dim);
  const Slice kv = scaled(shard_.kv_heads, config_.head_dim);

  draw(layer.attn_norm, seed, attn + "norm", {0, 1}, hidden, kNormSpread, 1);
  float* weight = layer.qkv;
  float* bias = layer.qkv_bias;
  for (const char* part : {"q", "k", "v"}) {
    const Slice rows = *part == 'q' ? q : kv;
    draw(weight, seed, attn + part, rows, hidden, gain);
    weight += rows.size() * config_.hidden;
    if (bias == nullptr) continue;
    draw(bias, seed, attn + part + ".bias", {0, 1}, rows, kBiasSpread);
    bias += rows.size();
  }
  draw(layer.o_proj, seed, attn + "o", hidden, q, unit_gain(config_.heads * config_.head_dim));
  if (layer.o_bias != nullptr)
    draw(layer.o_bias, seed, attn + "o.bias", {0, 1}, hidden, kBiasSpread);

  draw(layer.mlp_norm, seed, mlp + "norm", {0, 1}, hidden, kNormSpread, 1);
  draw(layer.gate_up, seed, mlp + "gate", shard_.ffn, hidden, gain);
  draw(layer.gate_up + shard_.ffn.size() * config_.hidden, seed, mlp + "up", shard_.ffn, hidden,
       gain);
  draw(layer.down, seed, mlp + "down", hidden, shard_.ffn, unit_gain(config_.ffn));
}

}  // namespace tp_decoder
