// SPDX-License-Identifier: Apache-2.0
#include "examples/tp_decoder/kv_cache.h"

#include <fmt/format.h>

namespace tp_decoder {

KvCache::KvCache(const ModelConfig& config, const Shard& shard, int64_t batch, int64_t max_tokens)
    : layers_(static_cast<size_t>(config.layers)),
      row_floats_(shard.kv_heads.size() * config.head_dim),
      token_floats_(batch * row_floats_) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    slab_.reserve(fmt::format("layers.{}.attn.core.k_cache", i), token_floats_ * max_tokens,
                  &layers_[i].keys);
    slab_.reserve(fmt::format("layers.{}.attn.core.v_cache", i), token_floats_ * max_tokens,
                  &layers_[i].values);
  }
}

void KvCache::grow(int64_t tokens) {
  const bool first = in_use_.empty();
  if (first) in_use_.assign(slab_.regions().begin(), slab_.regions().end());
  for (Region& region : in_use_) {
    region.bytes = static_cast<size_t>(tokens * token_floats_) * sizeof(float);
  }
  if (first) {
    register_regions(register_heap("kv_cache", slab_.base(), static_cast<size_t>(slab_.bytes())),
                     in_use_);
  } else {
    resize_regions(in_use_);
  }
}

}  // namespace tp_decoder
