// SPDX-License-Identifier: Apache-2.0
#include "tests/examples/reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "examples/tp_decoder/weights.h"

namespace tp_decoder::test {
namespace {

using Vector = std::vector<double>;

struct Matrix {
  int64_t cols;
  std::vector<float> values;
  double at(int64_t row, int64_t col) const { return values[size_t(row * cols + col)]; }
  int64_t rows() const { return int64_t(values.size()) / cols; }
};

Matrix matrix(uint64_t seed, const std::string& name, int64_t rows, int64_t cols, double spread,
              double mean = 0) {
  Matrix drawn{cols, std::vector<float>(size_t(rows * cols))};
  draw(drawn.values.data(), seed, name, {0, rows}, {0, cols}, float(spread), float(mean));
  return drawn;
}

Vector times(const Matrix& m, const Vector& x) {
  Vector y(size_t(m.rows()), 0.0);
  for (int64_t r = 0; r < m.rows(); ++r) {
    for (int64_t c = 0; c < m.cols; ++c) y[size_t(r)] += m.at(r, c) * x[size_t(c)];
  }
  return y;
}

void add(Vector& x, const Vector& y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}
void add_row(Vector& x, const Matrix& m, int64_t row) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += m.at(row, int64_t(i));
}

struct Layer {
  Matrix attn_norm, q, k, v, q_bias, k_bias, v_bias, o, o_bias, mlp_norm, gate, up, down;
  std::vector<Vector> keys, values;  // of the tokens so far
};

// One sequence, token after token.
class Reference {
 public:
  Reference(const nlohmann::json& config, uint64_t seed)
      : hidden_(config.at("hidden_size")),
        heads_(config.at("num_attention_heads")),
        kv_heads_(config.at("num_key_value_heads")),
        head_dim_(config.at("head_dim")),
        eps_(config.at("rms_norm_eps")),
        theta_(config.at("rope_theta")),
        o_bias_(config.value("attention_bias", false)),
        qkv_bias_(o_bias_ || config.at("model_type") == "qwen2"),
        tied_(config.at("tie_word_embeddings")) {
    const int64_t ffn = config.at("intermediate_size"), vocab = config.at("vocab_size");
    const double gain = std::sqrt(3.0 / double(hidden_));
    embed_ = matrix(seed, "embed_tokens", vocab, hidden_, tied_ ? 2 * gain : std::sqrt(3.0));
    if (!tied_) lm_head_ = matrix(seed, "lm_head", vocab, hidden_, gain);
    final_norm_ = matrix(seed, "final_norm", 1, hidden_, 0.1, 1);
    const int64_t q_rows = heads_ * head_dim_, kv_rows = kv_heads_ * head_dim_;
    for (int64_t i = 0; i < config.at("num_hidden_layers").get<int64_t>(); ++i) {
      const std::string attn = "layers." + std::to_string(i) + ".attn.";
      const std::string mlp = "layers." + std::to_string(i) + ".mlp.";
      layers_.push_back({matrix(seed, attn + "norm", 1, hidden_, 0.1, 1),
                         matrix(seed, attn + "q", q_rows, hidden_, gain),
                         matrix(seed, attn + "k", kv_rows, hidden_, gain),
                         matrix(seed, attn + "v", kv_rows, hidden_, gain),
                         matrix(seed, attn + "q.bias", 1, q_rows, 0.1),
                         matrix(seed, attn + "k.bias", 1, kv_rows, 0.1),
                         matrix(seed, attn + "v.bias", 1, kv_rows, 0.1),
                         matrix(seed, attn + "o", hidden_, q_rows, std::sqrt(3.0 / double(q_rows))),
                         matrix(seed, attn + "o.bias", 1, hidden_, 0.1),
                         matrix(seed, mlp + "norm", 1, hidden_, 0.1, 1),
                         matrix(seed, mlp + "gate", ffn, hidden_, gain),
                         matrix(seed, mlp + "up", ffn, hidden_, gain),
                         matrix(seed, mlp + "down", hidden_, ffn, std::sqrt(3.0 / double(ffn))),
                         {},
                         {}});
    }
  }

  // Feeds one token; returns the logits of its successor.
  Vector feed(int64_t token) {
    Vector x(size_t(hidden_), 0.0);
    add_row(x, embed_, token);
    for (Layer& layer : layers_) {
      add(x, attention(layer, norm(x, layer.attn_norm)));
      const Vector y = norm(x, layer.mlp_norm);
      Vector gate = times(layer.gate, y);
      const Vector up = times(layer.up, y);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      add(x, times(layer.down, gate));
    }
    ++position_;
    return times(tied_ ? embed_ : lm_head_, norm(x, final_norm_));
  }

 private:
  Vector norm(const Vector& x, const Matrix& weight) const {
    const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
    const double rms = std::sqrt(squares / double(x.size()) + eps_);
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] / rms * weight.at(0, int64_t(i));
    return y;
  }

  void rotate(Vector& x) const {
    const int64_t half = head_dim_ / 2;
    for (size_t head = 0; head < x.size(); head += size_t(head_dim_)) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle =
            double(position_) * std::pow(theta_, -2.0 * double(i) / double(head_dim_));
        double& a = x[head + size_t(i)];
        double& b = x[head + size_t(i + half)];
        const double rotated = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle);
        a = rotated;
      }
    }
  }

  Vector attention(Layer& layer, const Vector& x) const {
    Vector q = times(layer.q, x), k = times(layer.k, x), v = times(layer.v, x);
    if (qkv_bias_) {
      add_row(q, layer.q_bias, 0);
      add_row(k, layer.k_bias, 0);
      add_row(v, layer.v_bias, 0);
    }
    rotate(q);
    rotate(k);
    layer.keys.push_back(k);
    layer.values.push_back(v);
    Vector out(q.size(), 0.0);
    for (int64_t head = 0; head < heads_; ++head) {
      const int64_t from = head * head_dim_, shared = head / (heads_ / kv_heads_) * head_dim_;
      Vector weight;
      double total = 0;
      for (const Vector& key : layer.keys) {
        double dot = 0;
        for (int64_t i = 0; i < head_dim_; ++i)
          dot += q[size_t(from + i)] * key[size_t(shared + i)];
        weight.push_back(std::exp(dot / std::sqrt(double(head_dim_))));
        total += weight.back();
      }
      for (size_t t = 0; t < weight.size(); ++t) {
        for (int64_t i = 0; i < head_dim_; ++i) {
          out[size_t(from + i)] += weight[t] / total * layer.values[t][size_t(shared + i)];
        }
      }
    }
    Vector y = times(layer.o, out);
    if (o_bias_) add_row(y, layer.o_bias, 0);
    return y;
  }

  int64_t hidden_, heads_, kv_heads_, head_dim_;
  double eps_, theta_;
  bool o_bias_, qkv_bias_, tied_;
  int64_t position_ = 0;
  Matrix embed_, lm_head_, final_norm_;
  std::vector<Layer> layers_;
};

ReferenceToken choose(const Vector& logits) {
  const auto best = std::max_element(logits.begin(), logits.end());
  double second = -1e300;
  for (auto it = logits.begin(); it != logits.end(); ++it) {
    if (it != best) second = std::max(second, *it);
  }
  return {best - logits.begin(), *best, *best - second};
}

}  // namespace

std::vector<ReferenceToken> reference_tokens(const nlohmann::json& config, int64_t prompt,
                                             int64_t steps, int64_t batch, uint64_t seed) {
  const int64_t vocab = config.at("vocab_size");
  const Matrix uniform = matrix(seed, "prompt", 1, prompt * batch, 0.5, 0.5);
  std::vector<ReferenceToken> tokens(size_t((steps + 1) * batch));
  for (int64_t sequence = 0; sequence < batch; ++sequence) {
    Reference model(config, seed);
    Vector logits;
    for (int64_t i = 0; i < prompt; ++i) {
      const double drawn = uniform.at(0, i * batch + sequence);
      logits = model.feed(std::clamp<int64_t>(int64_t(drawn * double(vocab)), 0, vocab - 1));
    }
    for (int64_t step = 0; step <= steps; ++step) {
      const ReferenceToken next = choose(logits);
      tokens[size_t(step * batch + sequence)] = next;
      logits = model.feed(next.id);
    }
  }
  return tokens;
}

}  // namespace tp_decoder::test
