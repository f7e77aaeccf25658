// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/step_writer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "common/as_index.h"
#include "common/units.h"

namespace preserve {
namespace {

constexpr int64_t kHalfBytes = 2;       // activations, embeddings, head, norms
constexpr int64_t kVocabularyPad = 64;  // engines pad the vocabulary to a multiple of it

int64_t product_of(std::initializer_list<int64_t> factors) {
  int64_t value = 1;
  for (const int64_t factor : factors) value = checked_mul(value, factor, "the model's size");
  return value;
}

class StepWriter {
 public:
  StepWriter(const WorkloadSpec& spec, OperatorTimes& times)
      : spec_(spec), model_(spec.model), times_(times) {
    const auto format = [&](const NumberFormat& own) {
      return spec.type ? NumberFormat(*spec.type) : own;
    };
    attention_ = format(model_.attention_weights);
    mlp_ = format(model_.mlp_weights);
    experts_ = format(model_.expert_weights);
    kv_type_ = kv_type_of(spec);
  }

  Workload write() {
    tokens_in_step_ = product_of({spec_.batch, spec_.new_tokens});
    message_ = product_of({tokens_in_step_, model_.hidden, kHalfBytes});
    FoldedStep& step = result_.step;
    step.process = {1};
    step.world_size = spec_.ranks;
    step.source = "model";
    step.steps_total = step.steps_used = kWorkloadSteps;
    step.streams = {1};
    small("embed", OpKind::other, 0);
    allreduce("embed.allreduce");
    gap("embed.");
    for (size_t i = 0; i < model_.layers.size(); ++i) {
      write_layer(fmt::format("layers.{}.", i), model_.layers[i]);
    }
    norm("final_norm");
    const int64_t rows = vocabulary_rows();
    tokens_in_step_ = spec_.batch;  // the last one of each sequence
    result_.bytes.head = linear("lm_head", rows, model_.hidden, NumberFormat());
    if (!model_.tied_embeddings) result_.bytes.embedding = result_.bytes.head;
    if (spec_.ranks > 1) gather_logits(rows);
    small("sample", OpKind::other, 0);
    gap("");
    step.wall_ns = now_ns_;
    WorkloadBytes& bytes = result_.bytes;
    for (const int64_t part : {bytes.weights, bytes.head, bytes.embedding, bytes.kv, bytes.state}) {
      bytes.total = checked_add(bytes.total, part, "the model's size");
    }
    return std::move(result_);
  }

 private:
  int64_t share(int64_t count) const { return (count + spec_.ranks - 1) / spec_.ranks; }

  int64_t vocabulary_rows() const {
    return share((model_.vocabulary + kVocabularyPad - 1) / kVocabularyPad * kVocabularyPad);
  }

  // --- layers ---

  void write_layer(const std::string& layer, const LayerShape& shape) {
    if (shape.attention || shape.mixer) {
      norm(layer + "attn.norm");
      if (shape.attention) attention(layer + "attn.", *shape.attention);
      if (shape.mixer) mixer(layer + "mixer.", *shape.mixer);
      allreduce(layer + "attn.allreduce");
      if (shape.post_norms) norm(layer + "attn.post_norm");
    }
    if (shape.mlp || shape.experts) {
      norm(layer + "mlp.norm");
      if (shape.mlp) mlp(layer + "mlp.", shape.mlp->columns, shape.mlp->gated, "");
      if (shape.experts) experts(layer + "mlp.", *shape.experts);
      allreduce(layer + "mlp.allreduce");
      if (shape.post_norms) norm(layer + "mlp.post_norm");
    }
    gap(layer);
  }

  void attention(const std::string& prefix, const AttentionShape& shape) {
    const int64_t heads = share(shape.heads);
    if (shape.latent > 0) return latent_attention(prefix, shape, heads);
    const int64_t kv_heads = share(shape.kv_heads);
    const int64_t queries = heads * shape.head_dim;
    const int64_t query_rows = queries * (shape.gated ? 2 : 1),
                  side_rows = kv_heads * shape.head_dim;
    weight(prefix + "qkv", query_rows + 2 * side_rows, model_.hidden, attention_);
    result_.notes.back().parts = {query_rows, side_rows, side_rows};
    small(prefix + "rope", OpKind::compute, 0);
    core(prefix + "core", shape.window, kv_heads, 2 * shape.head_dim, heads / kv_heads,
         {"k_cache", "v_cache"}, side_rows);
    weight(prefix + "o_proj", model_.hidden, queries, attention_);
  }

  // The cache holds one latent for all heads, whole on every rank; keys and values are its
  // products, which are multiplied with the queries and the output instead (absorbed).
  void latent_attention(const std::string& prefix, const AttentionShape& shape, int64_t heads) {
    const int64_t queries = heads * shape.head_dim;
    const int64_t rank = shape.latent - shape.latent_rope;
    weight(prefix + "qkv_a", shape.query_rank + shape.latent, model_.hidden, attention_);
    if (shape.query_rank > 0) result_.notes.back().parts = {shape.query_rank, shape.latent};
    if (shape.query_rank > 0) {
      norm(prefix + "qkv_a.norm");
      weight(prefix + "q_b", queries, shape.query_rank, attention_);
    } else {
      weight(prefix + "q", queries, model_.hidden, attention_);
    }
    weight(prefix + "k_b", heads * (shape.head_dim - shape.latent_rope), rank, attention_);
    small(prefix + "rope", OpKind::compute, 0);
    core(prefix + "core", shape.window, 1, shape.latent, heads, {"latent_cache"}, shape.latent);
    weight(prefix + "v_b", heads * shape.value_dim, rank, attention_);
    weight(prefix + "o_proj", model_.hidden, heads * shape.value_dim, attention_);
  }

  // Keys and values of new tokens go after the old ones; the core then reads all. `caches` tensors
  // of `side_width` numbers per token each.
  void core(const std::string& name, int64_t window, int64_t kv_heads, int64_t width, int64_t group,
            std::initializer_list<const char*> caches, int64_t side_width) {
    const Tokens& tokens = tokens_within(window);
    const NumberFormat format(kv_type_);
    const int64_t side = format.bytes(product_of({tokens.sum, side_width}));
    const int64_t newest = std::min(side, format.bytes(product_of({tokens_in_step_, side_width})));
    std::vector<int32_t> tensors;
    for (const char* cache : caches) {
      tensors.push_back(tensor(fmt::format("{}.{}", name, cache), TensorRole::kv, side));
      access(tensors.back(), side - newest, newest, AccessMode::write);
      result_.step.tensors[as_index(tensors.back())].written = true;
      result_.bytes.kv = checked_add(result_.bytes.kv, side, "the KV-cache");
    }
    const auto sides = static_cast<int64_t>(tensors.size());
    append(name, OpKind::compute, "attention",
           times_.attention(tokens.of_sequence, kv_heads, width, group, kv_type_,
                            checked_mul(side, sides, "the KV-cache")));
    for (const int32_t cache : tensors) access(cache, 0, side, AccessMode::read);
  }

  struct Tokens {
    std::vector<int64_t> of_sequence;
    int64_t sum = 0;
  };

  // What attention with this window reads; once per window, as a batch may have many sequences.
  const Tokens& tokens_within(int64_t window) {
    const auto [known, fresh] = tokens_.try_emplace(window);
    if (!fresh) return known->second;
    Tokens& tokens = known->second;
    tokens.of_sequence = spec_.contexts;
    for (int64_t& context : tokens.of_sequence) {
      if (window > 0) context = std::min(context, window);
      tokens.sum = checked_add(tokens.sum, context, "the contexts");
    }
    return tokens;
  }

  void mixer(const std::string& prefix, const MixerShape& shape) {
    weight(prefix + "in_proj", share(shape.in_rows), model_.hidden, attention_);
    const int64_t bytes = product_of({share(shape.state_elements), spec_.batch, kHalfBytes});
    const int32_t state = tensor(prefix + "state", TensorRole::activation, bytes);
    append(prefix + "state", OpKind::compute, "state",
           times_.small(checked_mul(2, bytes, "the state")));  // read and written
    access(state, 0, bytes, AccessMode::read);
    access(state, 0, bytes, AccessMode::write);
    result_.step.tensors[as_index(state)].written = true;
    result_.bytes.state = checked_add(result_.bytes.state, bytes, "the state");
    weight(prefix + "out_proj", model_.hidden, share(shape.out_columns), attention_);
  }

  void mlp(const std::string& prefix, int64_t columns, bool gated, const std::string& part) {
    const int64_t mine = share(columns);
    weight(prefix + part + (gated ? "gate_up" : "up"), mine * (gated ? 2 : 1), model_.hidden, mlp_);
    if (gated) result_.notes.back().parts = {mine, mine};
    small(prefix + part + "act", OpKind::other, 0);
    weight(prefix + part + "down", model_.hidden, mine, mlp_);
  }

  // Which experts a step reads is known only when it runs: their role is unknown, so that nobody
  // plans to fetch them.
  void experts(const std::string& prefix, const ExpertsShape& shape) {
    weight(prefix + "router", shape.count, model_.hidden, NumberFormat());
    const auto count = static_cast<double>(shape.count), chosen = static_cast<double>(shape.chosen);
    // Each sequence chooses without regard to the others.
    const double distinct =
        count * (1 - std::pow(1 - chosen / count, static_cast<double>(tokens_in_step_)));
    const auto read = std::clamp<int64_t>(std::llround(distinct), shape.chosen, shape.count);
    const int64_t tokens = std::max<int64_t>(
        1, std::llround(static_cast<double>(tokens_in_step_) * chosen / static_cast<double>(read)));
    const int64_t mine = share(shape.columns);
    routed(prefix + "experts." + (shape.gated ? "gate_up" : "up"), shape.count, read, tokens,
           mine * (shape.gated ? 2 : 1), model_.hidden);
    small(prefix + "experts.act", OpKind::other, 0);
    routed(prefix + "experts.down", shape.count, read, tokens, model_.hidden, mine);
    if (shape.shared_columns > 0) mlp(prefix, shape.shared_columns, shape.gated, "shared.");
  }

  void routed(const std::string& name, int64_t count, int64_t read, int64_t tokens, int64_t rows,
              int64_t columns) {
    const int64_t one = experts_.bytes(product_of({rows, columns}));
    const int64_t bytes = checked_mul(one, read, "the experts");
    append(name, OpKind::compute, "product",
           times_.product(tokens, checked_mul(rows, read, "the experts"), columns, experts_.type,
                          bytes));
    access(tensor(name + ".weight", TensorRole::unknown, bytes), 0, bytes, AccessMode::read);
    result_.bytes.weights =
        checked_add(result_.bytes.weights, checked_mul(one, count, "the experts"), "the experts");
  }

  // --- operators ---

  void norm(const std::string& name) {
    const int64_t bytes = model_.hidden * kHalfBytes;
    small(name, OpKind::compute, bytes);
    access(tensor(name + ".weight", TensorRole::weight, bytes), 0, bytes, AccessMode::read);
  }

  // A product with weights of a layer.
  void weight(const std::string& name, int64_t rows, int64_t columns, const NumberFormat& format) {
    result_.bytes.weights =
        checked_add(result_.bytes.weights, linear(name, rows, columns, format), "the model's size");
  }

  // Returns its bytes.
  int64_t linear(const std::string& name, int64_t rows, int64_t columns,
                 const NumberFormat& format) {
    const int64_t bytes = format.bytes(product_of({rows, columns}));
    append(name, OpKind::compute, "product",
           times_.product(tokens_in_step_, rows, columns, format.type, bytes));
    result_.step.ops.back().gemm = StepGemm{tokens_in_step_, rows, columns, to_string(format.type)};
    access(tensor(name + ".weight", TensorRole::weight, bytes), 0, bytes, AccessMode::read);
    return bytes;
  }

  void allreduce(const std::string& name) {
    if (spec_.ranks > 1) collective(name, "allreduce", message_, message_);
  }

  void gather_logits(int64_t rows) {
    const int64_t bytes = product_of({rows, spec_.batch, kHalfBytes});
    if (times_.has_allgather()) {
      return collective("sample.allgather", "allgather", bytes, bytes);
    }
    result_.step.warnings.emplace_back(
        "the allgather of the logits is taken to last as long as an allreduce of the gathered "
        "size: the device file has no allgather");
    collective("sample.allgather", "allgather", bytes,
               checked_mul(bytes, spec_.ranks, "the logits"));
  }

  // `timed_bytes`: size of the message whose time is taken.
  void collective(const std::string& name, const std::string& function, int64_t bytes,
                  int64_t timed_bytes) {
    const bool alike = function == "allreduce" || times_.has_allgather();
    append(name, OpKind::collective, "collective",
           times_.collective(alike ? function : "allreduce", spec_.ranks, timed_bytes,
                             spec_.allreduce_ns));
    result_.step.ops.back().collective = StepCollective{.function = function,
                                                        .bytes = bytes,
                                                        .ranks = spec_.ranks,
                                                        .communicator = 1,
                                                        .blocking = true,
                                                        .dtype = "half"};
  }

  void small(const std::string& name, OpKind kind, int64_t read_bytes) {
    append(name, kind, "small", times_.small(read_bytes));
  }

  // Time in which the engine runs none of these operators, since the last gap.
  void gap(const std::string& prefix) {
    const double dur_ns = std::round((spec_.engine_overhead - 1) * (now_ns_ - last_gap_ns_));
    if (dur_ns > 0) {
      append(prefix + "engine", OpKind::other, "engine",
             {.dur_ns = dur_ns, .source = "--engine-overhead"});
    }
    last_gap_ns_ = now_ns_;
  }

  void append(std::string name, OpKind kind, const char* note, const TimedOperator& timed) {
    StepOp op;
    op.ordinal = static_cast<int32_t>(result_.step.ops.size());
    op.kind = kind;
    op.name = std::move(name);
    op.start_ns = now_ns_;
    op.dur_ns = timed.dur_ns;
    op.floor_ns = timed.floor_ns;
    now_ns_ += timed.dur_ns;
    result_.step.ops.push_back(std::move(op));
    result_.notes.push_back({note, timed.source, {}});
  }

  int32_t tensor(std::string name, TensorRole role, int64_t bytes) {
    result_.step.tensors.push_back({std::move(name), role, bytes, false});
    return static_cast<int32_t>(result_.step.tensors.size()) - 1;
  }

  void access(int32_t tensor, int64_t offset_bytes, int64_t bytes, AccessMode mode) {
    result_.step.ops.back().accesses.push_back({tensor, offset_bytes, bytes, mode, 1, "model"});
  }

  const WorkloadSpec& spec_;
  const ModelConfig& model_;
  OperatorTimes& times_;
  NumberFormat attention_, mlp_, experts_;
  WeightType kv_type_;
  std::map<int64_t, Tokens> tokens_;  // by window
  int64_t tokens_in_step_ = 0;        // that each product works on
  int64_t message_ = 0;
  double now_ns_ = 0, last_gap_ns_ = 0;
  Workload result_;
};

}  // namespace

Workload write_step(const WorkloadSpec& spec, OperatorTimes& times) {
  return StepWriter(spec, times).write();
}

}  // namespace preserve
