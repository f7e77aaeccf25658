// SPDX-License-Identifier: Apache-2.0
// What of a config.json is read, and what is refused by which key.
#include "planner/workload/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/error.h"
#include "planner/workload/model/parameters.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::fails_with;
using testing::HasSubstr;

// A small model that all keys of a test are added to.
const std::string kSmall = R"("hidden_size":64,"intermediate_size":128,"num_hidden_layers":4,)"
                           R"("num_attention_heads":4,"vocab_size":100)";

class ConfigFile : public testing::Test {
 protected:
  ModelConfig load(const std::string& text, bool assume_llama = false) {
    std::ofstream(directory_ / "m.json") << text;
    return load_model_config(directory_ / "m.json", assume_llama);
  }
  ModelConfig with(const std::string& keys, const std::string& type = "llama") {
    return load(
        fmt::format(R"({{"model_type":"{}",{}{}}})", type, kSmall, keys.empty() ? "" : "," + keys));
  }
  std::vector<int64_t> windows(const ModelConfig& model) {
    std::vector<int64_t> result;
    for (const LayerShape& layer : model.layers) result.push_back(layer.attention->window);
    return result;
  }
  // 'A'ttention, 'M'ixer or '-', then 'd'ense, 'e'xperts or '-', per layer.
  std::string kinds(const ModelConfig& model) {
    std::string text;
    for (const LayerShape& layer : model.layers) {
      text += layer.attention ? 'A' : layer.mixer ? 'M' : '-';
      text += layer.mlp ? 'd' : layer.experts ? 'e' : '-';
    }
    return text;
  }
  auto refused_for(const char* text) {
    return testing::ThrowsMessage<Error>(testing::AllOf(HasSubstr("m.json"), HasSubstr(text)));
  }

  void expect_refused(const std::string& keys, const char* says, const char* type = "llama") {
    EXPECT_THAT([&] { with(keys, type); }, refused_for(says)) << keys;
  }

  test::TemporaryDirectory directory_;
};

TEST_F(ConfigFile, HostileFilesAreRefusedWithTheKey) {
  const auto config = [&](const std::string& text) { return [this, text] { load(text); }; };
  EXPECT_THAT(config(""), refused_for("m.json"));
  EXPECT_THAT(config("[1,2]"), refused_for("not a model's config.json"));
  EXPECT_THAT(config("{}"), refused_for("not a model's config.json"));
  EXPECT_THAT(config(R"({"model_type":"mixtral","hidden_size":64})"),
              refused_for("/num_hidden_layers: missing"));
  expect_refused(R"("num_key_value_heads":3)", "3 does not divide");
  expect_refused(R"("num_key_value_heads":0)", "0 is not a whole number");
  expect_refused(R"("num_key_value_heads":-4)", "-4 is not");
  expect_refused(R"("head_dim":1.5)", "/head_dim: 1.5 is not");
  expect_refused(R"("head_dim":"big")", "/head_dim");
  expect_refused(R"("head_dim":99999999999999999999)", "/head_dim");
  expect_refused(R"("tie_word_embeddings":"yes")", "not true or false");
  expect_refused(R"("layer_types":["full_attention"])", "4 words");
  expect_refused(R"("layer_types":[1,2,3,4])", "/layer_types");
  expect_refused(R"("num_local_experts":8)", "/num_experts_per_tok");
  expect_refused(R"("quantization_config":7)", "/quantization_config");
  expect_refused(R"("attn_config":8)", "/attn_config: not an object");
  expect_refused(R"("ffn_config":[8])", "/ffn_config: not an object");
  expect_refused(R"("kv_lora_rank":8)", "/qk_rope_head_dim");
  EXPECT_THAT(config(R"({"model_type":"llama","hidden_size":65,"intermediate_size":128,)"
                     R"("num_hidden_layers":2,"num_attention_heads":4,"vocab_size":100})"),
              refused_for("does not divide hidden_size 65"));
  EXPECT_THAT([&] { load_model_config(directory_ / "absent.json"); }, fails_with("absent.json"));
}

TEST_F(ConfigFile, WhatIsNotModelledIsRefusedByItsKey) {
  for (const char* keys : {R"("num_kv_shared_layers":2)", R"("cross_attention_layers":[1])",
                           R"("index_topk":2048)", R"("linear_attn_config":{})",
                           R"("word_embed_proj_dim":32)", R"("num_local_experts":[4,4,8,8])"}) {
    expect_refused(keys, "which is not modelled");
  }
  EXPECT_NO_THROW(with(R"("num_kv_shared_layers":0)"));
  expect_refused(R"("is_encoder_decoder":true)", "/is_encoder_decoder");
  expect_refused(R"("architectures":["LlamaForSequenceClassification"])", "/architectures");
}

TEST_F(ConfigFile, UnknownTypesNeedAnAssumption) {
  expect_refused("", "--assume llama", "bert");
  EXPECT_THAT([&] { load("{" + kSmall + "}"); }, refused_for("/model_type: missing"));
  const ModelConfig model =
      load(R"({"model_type":"brandnew",)" + kSmall + "}", /*assume_llama=*/true);
  EXPECT_TRUE(model.layers[0].mlp->gated);
  EXPECT_THAT(model.warnings, testing::Contains(HasSubstr("taken for Llama's")));
}

TEST_F(ConfigFile, OldNames) {
  const ModelConfig model = load(
      R"({"model_type":"gpt2","n_embd":64,"n_head":4,"n_layer":2,"vocab_size":100,"n_inner":null})");
  EXPECT_EQ(model.hidden, 64);
  EXPECT_EQ(model.layers.size(), 2u);
  EXPECT_EQ(model.layers[0].mlp->columns, 256);
  EXPECT_FALSE(model.layers[0].mlp->gated);
  EXPECT_TRUE(model.tied_embeddings);
}

TEST_F(ConfigFile, PythonsWordsForNoNumber) {
  const ModelConfig model =
      with(R"("time_step_limit":[0.0, Infinity],"a":NaN,"b":-Infinity,"c":"Infinity \"NaN")");
  EXPECT_EQ(model.hidden, 64);
  expect_refused(R"("a":Nothing)", "not JSON");
}

TEST_F(ConfigFile, TextOfAModelThatAlsoSees) {
  const ModelConfig model =
      load(R"({"model_type":"gemma3","text_config":{"model_type":"gemma3_text","hidden_size":64,)"
           R"("intermediate_size":128,"num_hidden_layers":12,"sliding_window":16},)"
           R"("vision_config":{"hidden_size":1152}})");
  EXPECT_EQ(model.vocabulary, 262208) << "what transformers leaves out";
  EXPECT_EQ(model.layers[0].attention->kv_heads, 4);
  EXPECT_THAT(model.warnings, testing::Contains(HasSubstr("vocab_size is absent")));
  EXPECT_EQ(windows(model), (std::vector<int64_t>{16, 16, 16, 16, 16, 0, 16, 16, 16, 16, 16, 0}));
  EXPECT_THAT([&] { load(R"({"model_type":"x","text_config":{"model_type":"mixtral"}})"); },
              refused_for("/text_config/hidden_size"));
  EXPECT_EQ(load(R"({"model_type":"paligemma","hidden_size":32,"text_config":{)"
                 R"("model_type":"llama",)" +
                 kSmall + "}}")
                .hidden,
            64)
      << "a width beside the text";
}

TEST_F(ConfigFile, Windows) {
  using Windows = std::vector<int64_t>;
  const auto of = [&](const std::string& more, const char* type) {
    return windows(with(R"("num_key_value_heads":4,"sliding_window":8)" + more, type));
  };
  EXPECT_EQ(of("", "mistral"), (Windows{8, 8, 8, 8}));
  EXPECT_EQ(of("", "gemma2"), (Windows{8, 0, 8, 0}));
  EXPECT_EQ(of(R"(,"use_sliding_window":false)", "qwen2"), (Windows{0, 0, 0, 0}));
  EXPECT_EQ(of(R"(,"use_sliding_window":true,"max_window_layers":3)", "qwen2"),
            (Windows{0, 0, 0, 8}));
  EXPECT_EQ(of(R"(,"layer_types":["full_attention","sliding_attention","full_attention",)"
               R"("full_attention"])",
               "qwen3"),
            (Windows{0, 8, 0, 0}));
  expect_refused(R"("layer_types":["sliding_attention","full_attention","full_attention",)"
                 R"("full_attention"])",
                 "/sliding_window: missing");
}

TEST_F(ConfigFile, LayersWithExperts) {
  const std::string experts =
      R"("num_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":32)";
  EXPECT_EQ(kinds(with(experts, "qwen3_moe")), "AeAeAeAe");
  EXPECT_EQ(kinds(with(experts + R"(,"mlp_only_layers":[2],"decoder_sparse_step":2)", "qwen3_moe")),
            "AdAeAdAe");
  EXPECT_EQ(kinds(with(experts + R"(,"first_k_dense_replace":3)", "deepseek")), "AdAdAdAe");
  EXPECT_EQ(
      kinds(with(R"("moe_num_experts":8,"moe_k":2,"moe_intermediate_size":32,)"
                 R"("moe_layer_start_index":1,"moe_layer_end_index":2,"moe_num_shared_experts":2)",
                 "ernie4_5_moe")),
      "AdAeAeAd");
  EXPECT_EQ(kinds(with(R"("num_local_experts":0,"num_experts_per_tok":0)", "granitemoe")),
            "AdAdAdAd")
      << "0 experts: a dense model";
  const ModelConfig shared = with(experts + R"(,"n_shared_experts":2)", "deepseek");
  EXPECT_EQ(shared.layers[0].experts->shared_columns, 64);
  EXPECT_EQ(shared.layers[0].experts->chosen, 2);
}

TEST_F(ConfigFile, LayersOfOtherKinds) {
  const std::string mamba =
      R"(,"mamba_num_heads":4,"mamba_head_dim":32,"ssm_state_size":16,"conv_kernel":4,"n_groups":2)";
  const ModelConfig hybrid = with(R"("hybrid_override_pattern":"M-*-")" + mamba, "nemotron_h");
  EXPECT_EQ(kinds(hybrid), "M--dA--d");
  EXPECT_EQ(hybrid.layers[0].mixer->in_rows, 2 * 128 + 2 * 2 * 16 + 4);
  EXPECT_EQ(kv_elements_per_token(hybrid), 2 * 4 * 16) << "one layer has a cache";
  expect_refused(mamba.substr(1), "/hybrid_override_pattern", "nemotron_h");
  expect_refused(R"("hybrid_override_pattern":"M-*")" + mamba, "3 letters for 4 layers",
                 "nemotron_h");
  expect_refused(R"("layer_types":["mamba","mamba","attention","attention"])",
                 "not understood for model_type 'llama'");
}

TEST_F(ConfigFile, KeyValueHeadsPerLayer) {
  const ModelConfig model = with(R"("num_key_value_heads_per_layer":[4,2,1,1])", "deci");
  EXPECT_EQ(kv_elements_per_token(model), 2 * (4 + 2 + 1 + 1) * 16);
  expect_refused(R"("num_key_value_heads_per_layer":[4,2])", "/num_key_value_heads_per_layer",
                 "deci");
}

// As the Nemotron of the Puzzle kind: 2 * ffn_mult * hidden / 3, rounded up to 256.
TEST_F(ConfigFile, LayersChosenOneByOne) {
  const auto block = [](const std::string& attention, const std::string& mlp) {
    return R"({"attention":{)" + attention + R"(,"window_length":null},"ffn":{)" + mlp + "}}";
  };
  const std::string plain = block(R"("n_heads_in_group":2,"no_op":false)", R"("ffn_mult":5.25)");
  const auto blocks = [&](const std::string& second) {
    return with(R"("block_configs":[)" + plain + "," + second + "," + plain + "," + plain + "]",
                "nemotron-nas");
  };
  const ModelConfig model =
      blocks(block(R"("n_heads_in_group":null,"no_op":true)", R"("ffn_mult":9)"));
  EXPECT_EQ(kinds(model), "Ad-dAdAd");
  EXPECT_EQ(model.layers[0].attention->kv_heads, 2);
  EXPECT_EQ(model.layers[0].mlp->columns, 256);
  EXPECT_EQ(model.layers[1].mlp->columns, 512);
  EXPECT_EQ(model.layers[1].norm_parameters * 2, model.layers[0].norm_parameters);
  EXPECT_EQ(kinds(blocks(block(R"("n_heads_in_group":4)", R"("no_op":true)"))), "AdA-AdAd");
  EXPECT_THAT([&] { blocks(block(R"("replace_with_linear":true)", R"("ffn_mult":1)")); },
              refused_for("/block_configs/1/attention/replace_with_linear"));
  EXPECT_THAT([&] { blocks(block(R"("n_heads_in_group":2)", R"("ffn_mult":-1)")); },
              refused_for("/block_configs/1/ffn/ffn_mult"));
  EXPECT_THAT([&] { blocks(block(R"("n_heads_in_group":2)", R"("moe":{})")); },
              refused_for("/block_configs/1/ffn/moe"));
  EXPECT_THAT([&] { blocks("7"); }, refused_for("/block_configs/1"));
  expect_refused(R"("block_configs":[{}])", "/block_configs", "deci");
}

TEST_F(ConfigFile, AListThatSaysOneThingIsANumber) {
  const ModelConfig model =
      with(R"("num_experts":8,"moe_topk":[2,2,2,2],"mamba_d_head":"auto")", "hunyuan_v1_moe");
  EXPECT_EQ(model.layers[0].experts->chosen, 2);
  expect_refused(R"("num_experts":8,"moe_topk":[2,2,1,2])",
                 "/moe_topk: not the same for all layers", "hunyuan_v1_moe");
}

TEST_F(ConfigFile, LatentAttention) {
  const ModelConfig model = with(R"("kv_lora_rank":16,"qk_rope_head_dim":8,"qk_nope_head_dim":16,)"
                                 R"("q_lora_rank":32)",
                                 "minicpm3");
  EXPECT_EQ(model.layers[0].attention->latent, 24);
  EXPECT_EQ(model.layers[0].attention->value_dim, 16);
  EXPECT_EQ(kv_elements_per_token(model), 4 * 24);
  expect_refused("", "/kv_lora_rank", "deepseek_v3");
  EXPECT_EQ(with(R"("use_mla":false)", "deepseek_v2").layers[0].attention->kv_heads, 4);
}

TEST_F(ConfigFile, Quantization) {
  const auto quantized = [&](const std::string& config) {
    return with(R"("quantization_config":{)" + config + "}");
  };
  const ModelConfig fp8 = quantized(R"("quant_method":"fp8","weight_block_size":[128,128])");
  EXPECT_EQ(fp8.mlp_weights, NumberFormat(WeightType::fp8, 128 * 128, 4));
  EXPECT_EQ(fp8.kv_type, WeightType::fp16);
  const ModelConfig groups = quantized(
      R"("quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":)"
      R"({"num_bits":8,"type":"float"}}},"kv_cache_scheme":{"num_bits":8,"type":"float"})");
  EXPECT_EQ(groups.attention_weights.type, WeightType::fp8);
  EXPECT_EQ(groups.kv_type, WeightType::fp8);
  EXPECT_EQ(quantized(R"("quant_method":"awq","bits":4,"group_size":64)").mlp_weights,
            NumberFormat(WeightType::int4, 64, 2.5));
  EXPECT_EQ(quantized(R"("quant_method":"modelopt","quant_algo":"NVFP4")").mlp_weights.type,
            WeightType::fp4);
  const ModelConfig experts = quantized(
      R"("quant_method":"mxfp4","modules_to_not_convert":["model.layers.*.self_attn","lm_head"])");
  EXPECT_EQ(experts.attention_weights.type, WeightType::fp16);
  EXPECT_EQ(experts.expert_weights, NumberFormat(WeightType::fp4, 32, 1));
  const ModelConfig shared = quantized(
      R"("quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":)"
      R"({"num_bits":4,"type":"int","group_size":32}}},"ignore":["re:.*shared_experts.*"])");
  EXPECT_EQ(shared.mlp_weights.type, WeightType::fp16);
  EXPECT_EQ(shared.expert_weights, NumberFormat(WeightType::int4, 32, 2.5));
  EXPECT_EQ(quantized(R"("quant_method":"fp8","ignored_layers":["model.layers.0.self_attn"])")
                .attention_weights.type,
            WeightType::fp8)
      << "one layer of four";
  // Parts whose names hold those of the decoder's.
  const ModelConfig others = quantized(
      R"("quant_method":"fp8","ignored_layers":["visual.blocks.0.attn.qkv",)"
      R"("visual.blocks.1.attn.qkv","visual.blocks.2.attn.qkv","visual.blocks.3.attn.qkv",)"
      R"("model.vision_tower.self_attn","model.layers.*.mlp.shared_expert_gate"])");
  EXPECT_EQ(others.attention_weights.type, WeightType::fp8);
  EXPECT_EQ(others.mlp_weights.type, WeightType::fp8);
  EXPECT_EQ(
      quantized(R"("quant_method":"fp8","ignore":["re:model\\.layers\\.[0-9]+\\.self_attn.*"])")
          .attention_weights.type,
      WeightType::fp16);
  EXPECT_EQ(quantized(R"("quant_method":"bitsandbytes","load_in_4bit":true)").mlp_weights,
            NumberFormat(WeightType::int4, 64, 4));
  EXPECT_EQ(with(R"("quantization":{"group_size":64,"bits":4})").mlp_weights,
            NumberFormat(WeightType::int4, 64, 4));
  EXPECT_EQ(load(R"({"model_type":"llava","quantization":{"group_size":64,"bits":8},)"
                 R"("text_config":{"model_type":"llama",)" +
                 kSmall + "}}")
                .mlp_weights.type,
            WeightType::int8);
  EXPECT_THAT([&] { quantized(R"("quant_method":"quark")"); },
              refused_for("/quantization_config/quant_method: 'quark'"));
  EXPECT_EQ(NumberFormat(WeightType::int4, 64, 2.5).bytes(128), 64 + 5);
}

TEST_F(ConfigFile, TheIndexBesideItIsCompared) {
  std::ofstream(directory_ / "model.safetensors.index.json")
      << R"({"metadata":{"total_size":1000000}})";
  EXPECT_EQ(with(R"("torch_dtype":"bfloat16")").indexed_parameters, 500'000);
  EXPECT_EQ(with("").indexed_parameters, std::nullopt) << "of a type that is not known";
  std::ofstream(directory_ / "model.safetensors.index.json")
      << R"({"metadata":{"total_parameters":-3}})";
  EXPECT_THAT([&] { with(""); }, fails_with("/metadata/total_parameters"));
}

}  // namespace
}  // namespace preserve
