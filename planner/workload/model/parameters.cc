// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/model/parameters.h"

#include <cmath>

#include "common/error.h"

namespace preserve {
namespace {

// A product of widths. double: exact below 2^53, and hostile widths do not overflow.
template <typename... Factors>
double times(Factors... factors) {
  return (static_cast<double>(factors) * ...);
}

double count(const AttentionShape& shape, int64_t hidden) {
  const double queries = times(shape.heads, shape.head_dim);
  if (shape.latent == 0) {
    const double keys = times(shape.kv_heads, shape.head_dim);
    return times(hidden, queries * (shape.gated ? 3 : 2) + 2 * keys) +
           times(shape.other_parameters);
  }
  const int64_t rank = shape.latent - shape.latent_rope;
  const double query = shape.query_rank > 0 ? times(times(hidden) + queries, shape.query_rank)
                                            : times(hidden, queries);
  return query + times(hidden, shape.latent) +
         times(rank, shape.heads, shape.head_dim - shape.latent_rope + shape.value_dim) +
         times(shape.heads, shape.value_dim, hidden) + times(shape.other_parameters);
}

double count(const MixerShape& shape, int64_t hidden) {
  return times(hidden, shape.in_rows + shape.out_columns) + times(shape.other_parameters);
}

double count(const MlpShape& shape, int64_t hidden) {
  return times(hidden, shape.columns, shape.gated ? 3 : 2) + times(shape.other_parameters);
}

double count(const ExpertsShape& shape, int64_t hidden) {
  const double columns = times(shape.count, shape.columns) + times(shape.shared_columns);
  return times(hidden, columns * (shape.gated ? 3 : 2) + times(shape.count)) +
         times(shape.other_parameters);
}

}  // namespace

int64_t parameter_count(const ModelConfig& model) {
  double total = times(model.other_parameters) +
                 times(model.vocabulary, model.hidden, model.tied_embeddings ? 1 : 2);
  for (const LayerShape& layer : model.layers) {
    total += times(layer.norm_parameters);
    if (layer.attention) total += count(*layer.attention, model.hidden);
    if (layer.mixer) total += count(*layer.mixer, model.hidden);
    if (layer.mlp) total += count(*layer.mlp, model.hidden);
    if (layer.experts) total += count(*layer.experts, model.hidden);
  }
  if (total > std::ldexp(1, 53)) {
    throw input_error("{}: a model of {:.3g} parameters: its widths cannot be right", model.name,
                      total);
  }
  return std::llround(total);
}

int64_t kv_elements_per_token(const ModelConfig& model) {
  double total = 0;
  for (const LayerShape& layer : model.layers) {
    if (!layer.attention) continue;
    const AttentionShape& shape = *layer.attention;
    total += shape.latent > 0 ? times(shape.latent) : times(2, shape.kv_heads, shape.head_dim);
  }
  return std::llround(total);
}

}  // namespace preserve
