// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/model/mixers.h"

namespace preserve {
namespace {

class MixerReader {
 public:
  MixerReader(const ConfigReader& keys, int64_t hidden) : keys_(keys), hidden_(hidden) {}

  // `norms`: of the step and of what goes into and comes out of the state, as in Jamba.
  MixerShape mamba(bool norms) const {
    // Falcon's Mamba states an `expand` that it does not use.
    const auto stated = norms ? std::nullopt : keys_.number({"intermediate_size"});
    const int64_t width = stated.value_or(expanded());
    const int64_t state = keys_.required({"mamba_d_state", "state_size"});
    const int64_t kernel = keys_.required({"mamba_d_conv", "conv_kernel"});
    const int64_t rank = keys_.number_or({"mamba_dt_rank", "time_step_rank"}, (hidden_ + 15) / 16);
    return {.in_rows = 2 * width,
            .out_columns = width,
            .other_parameters = width * (kernel + 1) + width * (rank + 2 * state) +
                                (rank + 1) * width + width * state + width +
                                (norms ? rank + 2 * state : 0),
            .state_elements = width * (state + kernel)};
  }

  MixerShape mamba2() const {
    const int64_t heads = keys_.required({"mamba_num_heads", "mamba_n_heads", "num_heads"});
    const int64_t groups = keys_.required({"n_groups", "mamba_n_groups"});
    const int64_t state = keys_.required({"ssm_state_size", "mamba_d_state", "state_size"});
    const int64_t kernel = keys_.number_or({"conv_kernel", "mamba_d_conv"}, 4);
    const auto width = keys_.number({"mamba_head_dim", "mamba_d_head"});
    const int64_t inner = width ? heads * *width : keys_.number_or({"mamba_d_ssm"}, expanded());
    const int64_t convolved = inner + 2 * groups * state;
    return {.in_rows = inner + convolved + heads,
            .out_columns = inner,
            .other_parameters = convolved * (kernel + 1) + 3 * heads + inner,
            .state_elements = inner * state + convolved * kernel};
  }

  MixerShape gated_delta() const {
    const int64_t key_heads = keys_.required({"linear_num_key_heads"});
    const int64_t value_heads = keys_.required({"linear_num_value_heads"});
    const int64_t key_dim = keys_.required({"linear_key_head_dim"});
    const int64_t value_dim = keys_.required({"linear_value_head_dim"});
    const int64_t kernel = keys_.number_or({"linear_conv_kernel_dim"}, 4);
    const int64_t keys = key_heads * key_dim, values = value_heads * value_dim;
    return {.in_rows = 2 * keys + 2 * values + 2 * value_heads,
            .out_columns = values,
            .other_parameters = (2 * keys + values) * kernel + 2 * value_heads + value_dim,
            .state_elements = value_heads * key_dim * value_dim + (2 * keys + values) * kernel};
  }

  MixerShape short_convolution() const {
    const int64_t kernel = keys_.number_or({"conv_L_cache"}, 3);
    return {.in_rows = 3 * hidden_,
            .out_columns = hidden_,
            .other_parameters = hidden_ * kernel,
            .state_elements = hidden_ * kernel};
  }

  // Queries, keys, values and a gate of the output.
  static MixerShape lightning(int64_t width, int64_t head_dim) {
    return {.in_rows = 4 * width,
            .out_columns = width,
            .other_parameters = width,
            .state_elements = width * head_dim};
  }

  // RecurrentGemma: two branches with biases, a convolution, and two gates of one block per head.
  MixerShape gated_recurrence(int64_t heads) const {
    const int64_t width = keys_.number_or({"lru_width"}, hidden_);
    const int64_t kernel = keys_.number_or({"conv1d_width"}, 4);
    if (width % heads != 0) {
      throw keys_.error("lru_width", "{} heads do not divide {}", heads, width);
    }
    const int64_t gates = 2 * width * (width / heads) + 3 * width;
    return {.in_rows = 2 * width,
            .out_columns = width,
            .other_parameters = width * (kernel + 1) + gates + 2 * width + hidden_,
            .state_elements = width * kernel};
  }

 private:
  int64_t expanded() const {
    return keys_.number_or({"mamba_expand", "expand"}, 2, 1, 64) * hidden_;
  }

  const ConfigReader& keys_;
  int64_t hidden_;
};

}  // namespace

MixerShape read_mixer(const ConfigReader& keys, const Family& family, int64_t hidden, int64_t heads,
                      int64_t head_dim) {
  const MixerReader reader(keys, hidden);
  switch (family.mixer) {
    case Mixer::mamba:
      return reader.mamba(family.attends);
    case Mixer::mamba2:
      return reader.mamba2();
    case Mixer::gated_delta:
      return reader.gated_delta();
    case Mixer::short_convolution:
      return reader.short_convolution();
    case Mixer::lightning:
      return MixerReader::lightning(heads * head_dim, head_dim);
    case Mixer::gated_recurrence:
      return reader.gated_recurrence(heads);
    case Mixer::none:
      break;
  }
  throw internal_error("a layer of a kind that its family does not have");
}

}  // namespace preserve
