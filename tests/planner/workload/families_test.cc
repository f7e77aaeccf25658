// SPDX-License-Identifier: Apache-2.0
// One model of each family: the number of its parameters as published, and the numbers that it
// caches per token, by hand. The comment over each model names where the count is published:
//   hub    what the Hugging Face API gives as `safetensors.total` of the repository named
//   index  `total_size` of the index of its weights, over the bytes of a parameter
//   log    what a program that loaded the model printed
// The hub, the indexes and the logs were read as public repositories and pages quote them. A count
// equals its source to the last digit, unless the source is `rounded` or the comment says how far
// it is. Tied embeddings count once; layers that predict further tokens do not count. The
// configurations, reduced to the keys that matter, were not compared key by key.
#include <gtest/gtest.h>

#include "planner/workload/model/parameters.h"
#include "tests/planner/workload/examples.h"

namespace preserve {
namespace {

constexpr test::ModelShape of(int64_t hidden, int64_t intermediate, int64_t layers, int64_t heads,
                              int64_t vocabulary, int64_t kv_heads = 0) {
  return {hidden, intermediate, layers, heads, vocabulary, kv_heads};
}
constexpr test::ModelShape kOthers{};  // whose keys are others

struct Published {
  const char* name;
  int64_t parameters;
  int64_t kv_elements;  // per token: 2 * layers with a cache * KV heads * head size
  const char* type;
  test::ModelShape shape;
  const char* more;  // further keys
};
void PrintTo(const Published& model, std::ostream* out) {
  *out << model.name;
}

const Published kModels[] = {
    // hub: meta-llama/Llama-3.1-8B, of the same shapes; index: 16060522496 / 2
    {"llama3-8b", 8030261248, 65536, "llama", of(4096, 14336, 32, 32, 128256, 8),
     R"("tie_word_embeddings": false)"},
    // hub: meta-llama/Llama-3.2-1B-Instruct
    {"llama3.2-1b", 1235814400, 16384, "llama", of(2048, 8192, 16, 32, 128256, 8),
     R"("head_dim": 64, "tie_word_embeddings": true)"},
    // hub: mistralai/Mistral-7B-v0.1; index of Mistral-7B-Instruct-v0.2: 14483464192 / 2
    {"mistral-7b", 7241732096, 65536, "mistral", of(4096, 14336, 32, 32, 32000, 8),
     R"("sliding_window": 4096)"},
    // KerasHub, preset mixtral_8_7b_en; hub: mistralai/Mixtral-8x7B-Instruct-v0.1
    {"mixtral-8x7b", 46702792704, 65536, "mixtral", of(4096, 14336, 32, 32, 32000, 8),
     R"("num_local_experts": 8, "num_experts_per_tok": 2)"},
    // index of Qwen/Qwen2.5-7B-Instruct, of the same shapes: 15231233024 / 2
    {"qwen2-7b", 7615616512, 28672, "qwen2", of(3584, 18944, 28, 28, 152064, 4), ""},
    // hub: Qwen/Qwen2.5-0.5B-Instruct
    {"qwen2.5-0.5b", 494032768, 6144, "qwen2", of(896, 4864, 24, 14, 151936, 2),
     R"("tie_word_embeddings": true)"},
    // hub: Qwen/Qwen3-8B
    {"qwen3-8b", 8190735360, 73728, "qwen3", of(4096, 12288, 36, 32, 151936, 8),
     R"("head_dim": 128)"},
    // hub: Qwen/Qwen3-30B-A3B
    {"qwen3-30b-a3b", 30532122624, 49152, "qwen3_moe", of(2048, 6144, 48, 32, 151936, 4),
     R"("head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, )"
     R"("moe_intermediate_size": 768, "decoder_sparse_step": 1, "mlp_only_layers": [])"},
    // hub: Qwen/Qwen1.5-MoE-A2.7B; KerasHub, preset qwen1.5_moe_2.7b_en
    {"qwen1.5-moe", 14315784192, 98304, "qwen2_moe", of(2048, 5632, 24, 16, 151936),
     R"("num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408, )"
     R"("shared_expert_intermediate_size": 5632)"},
    // hub: microsoft/Phi-3-mini-4k-instruct
    {"phi-3-mini", 3821079552, 196608, "phi3", of(3072, 8192, 32, 32, 32064), ""},
    // index of microsoft/phi-2: 5559367680 / 2
    {"phi-2", 2779683840, 163840, "phi", of(2560, 10240, 32, 32, 51200), ""},
    // rounded: 41.873 billion, microsoft/Phi-3.5-MoE-instruct in the data set
    // cot-leaderboard/cot-leaderboard-requests of the hub
    {"phi-3.5-moe", 41873153344, 65536, "phimoe", of(4096, 6400, 32, 32, 32064, 8),
     R"("num_local_experts": 16, "num_experts_per_tok": 2, "attention_bias": true, )"
     R"("lm_head_bias": true)"},
    // Pythia README: 805,736,448 without embeddings, of which there are 2 * 50304 * 2048.
    // The hub has 512 more.
    {"pythia-1b", 1011781632, 65536, "gpt_neox", of(2048, 8192, 16, 8, 50304), ""},
    // Pythia README: 6,444,163,072 without embeddings, of which there are 2 * 50432 * 4096
    {"pythia-6.9b", 6857302016, 262144, "gpt_neox", of(4096, 16384, 32, 32, 50432), ""},
    // KerasHub, preset gpt2_base_en; hub: 137022720 in gpt2, less 12 causal masks of 1024 * 1024
    {"gpt2", 124439808, 18432, "gpt2", kOthers,
     R"("n_embd": 768, "n_head": 12, "n_layer": 12, "vocab_size": 50257, "n_positions": 1024)"},
    // log of a LoRA of EleutherAI/gpt-j-6B: 6054552800, of which LoRA 3670016. The model card says
    // 6053381344, 0.04 % more, and not why.
    {"gpt-j", 6050882784, 229376, "gptj", kOthers,
     R"("n_embd": 4096, "n_head": 16, "n_layer": 28, "vocab_size": 50400, )"
     R"("tie_word_embeddings": false)"},
    // log of a LoRA of bigcode/starcoder, Hugging Face blog, personal-copilot: 15,627,884,544, of
    // which LoRA 110,428,160
    {"bigcode", 15517456384, 10240, "gpt_bigcode", kOthers,
     R"("n_embd": 6144, "n_head": 48, "n_layer": 40, "vocab_size": 49152, "n_positions": 8192, )"
     R"("multi_query": true, "n_inner": 24576)"},
    // hub: peft-internal-testing/opt-125m. KerasHub, preset opt_125m_en, leaves out the two rows of
    // positions that stand for padding: 125237760.
    {"opt-125m", 125239296, 18432, "opt", kOthers,
     R"("hidden_size": 768, "ffn_dim": 3072, "num_attention_heads": 12, )"
     R"("num_hidden_layers": 12, "vocab_size": 50272, "max_position_embeddings": 2048)"},
    // index of an MPT checkpoint of these shapes: 13298573312 / 2
    {"mpt-7b", 6649286656, 262144, "mpt", kOthers,
     R"("d_model": 4096, "n_heads": 32, "n_layers": 32, "vocab_size": 50432, )"
     R"("expansion_ratio": 4)"},
    // log of a 4-bit LoRA of tiiuae/falcon-7b: 3,613,463,424, of which LoRA 4,718,592, where two
    // weights of a linear layer count as one. Tables that count the tied output head again,
    // 65024 * 4544, say 7217189760.
    {"falcon-7b", 6921720704, 4096, "falcon", kOthers,
     R"("hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32, )"
     R"("vocab_size": 65024, "multi_query": true, "new_decoder_architecture": false, )"
     R"("parallel_attn": true, "bias": false)"},
    // KerasHub, preset gemma_2b_en
    {"gemma-2b", 2506172416, 9216, "gemma", of(2048, 16384, 18, 8, 256000, 1),
     R"("head_dim": 256)"},
    // hub: google/gemma-2-9b; KerasHub, preset gemma2_9b_en
    {"gemma2-9b", 9241705984, 172032, "gemma2", of(3584, 14336, 42, 16, 256000, 8),
     R"("head_dim": 256, "sliding_window": 4096)"},
    // hub: google/gemma-3-1b-it; KerasHub, preset gemma3_1b
    {"gemma3-1b", 999885952, 13312, "gemma3_text", of(1152, 6912, 26, 4, 262144, 1),
     R"("head_dim": 256, "sliding_window": 512)"},
    // rounded: 3.03 billion, bigcode/starcoder2-3b in the data set open-llm-leaderboard/requests of
    // the hub
    {"starcoder2-3b", 3030371328, 15360, "starcoder2", of(3072, 12288, 30, 24, 49152, 2),
     R"("use_bias": true)"},
    // hub: deepseek-ai/DeepSeek-V2-Lite
    {"deepseek-v2-lite", 15706484224, 15552, "deepseek_v2", of(2048, 10944, 27, 16, 102400),
     R"("kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, )"
     R"("v_head_dim": 128, "n_routed_experts": 64, "n_shared_experts": 2, )"
     R"("num_experts_per_tok": 6, "moe_intermediate_size": 1408, "first_k_dense_replace": 1, )"
     R"("moe_layer_freq": 1)"},
    // hub: microsoft/MAI-DS-R1, the same shapes without a layer that predicts further tokens. With
    // that layer, deepseek-ai/DeepSeek-R1 has 684489845504.
    {"deepseek-v3", 671026419200, 35136, "deepseek_v3", of(7168, 18432, 61, 128, 129280),
     R"("kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, )"
     R"("qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256, )"
     R"("n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, )"
     R"("first_k_dense_replace": 3, "moe_layer_freq": 1, "num_nextn_predict_layers": 1)"},
    // hub: openai/gpt-oss-20b; its model card, arXiv 2508.10925: 20.91B
    {"gpt-oss-20b", 20914757184, 24576, "gpt_oss", of(2880, 2880, 24, 64, 201088, 8),
     R"("head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4, )"
     R"("sliding_window": 128, "attention_bias": true)"},
    // hub: openai/gpt-oss-120b; its model card, arXiv 2508.10925: 116.83B
    {"gpt-oss-120b", 116829156672, 36864, "gpt_oss", of(2880, 2880, 36, 64, 201088, 8),
     R"("head_dim": 64, "num_local_experts": 128, "num_experts_per_tok": 4, )"
     R"("sliding_window": 128, "attention_bias": true)"},
    // the headers of the three weight files of allenai/OLMoE-1B-7B-0924
    {"olmoe", 6919161856, 65536, "olmoe", of(2048, 1024, 16, 16, 50304),
     R"("num_experts": 64, "num_experts_per_tok": 8)"},
    // hub: allenai/OLMo-2-1124-7B
    {"olmo2-7b", 7298617344, 262144, "olmo2", of(4096, 11008, 32, 32, 100352), ""},
    // hub: HuggingFaceTB/SmolLM3-3B; index: 6150197248 / 2
    {"smollm3", 3075098624, 36864, "smollm3", of(2048, 11008, 36, 16, 128256, 4), ""},
    // index of a Jamba checkpoint of these shapes: 103140646656 / 2
    {"jamba", 51570323328, 8192, "jamba", of(4096, 14336, 32, 32, 65536, 8),
     R"("num_experts": 16, "num_experts_per_tok": 2, "attn_layer_period": 8, )"
     R"("attn_layer_offset": 4, "expert_layer_period": 2, "expert_layer_offset": 1, )"
     R"("mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 256)"},
    // model card of LFM2: 1,170,340,608
    {"lfm2-1.2b", 1170340608, 6144, "lfm2", kOthers,
     R"("hidden_size": 2048, "block_ff_dim": 12288, "block_auto_adjust_ff_dim": true, )"
     R"("block_multiple_of": 256, "num_attention_heads": 32, "num_key_value_heads": 8, )"
     R"("num_hidden_layers": 16, "vocab_size": 65536, "conv_L_cache": 3, )"
     R"("layer_types": ["conv", "conv", "full_attention", "conv", "conv", "full_attention", )"
     R"("conv", "conv", "full_attention", "conv", "full_attention", "conv", "full_attention", )"
     R"("conv", "full_attention", "conv"])"},
    // rounded: 34.981 billion, CohereForAI/c4ai-command-r-v01 in the data set OALL/requests of the
    // hub
    {"command-r", 34980831232, 655360, "cohere", of(8192, 22528, 40, 64, 256000), ""},
    // log of glm-4-9b-chat: 9399951392 with the 32 frequencies of its rotary embedding
    {"glm4-9b", 9399951360, 20480, "chatglm", kOthers,
     R"("hidden_size": 4096, "ffn_hidden_size": 13696, "num_layers": 40, )"
     R"("num_attention_heads": 32, "multi_query_attention": true, "multi_query_group_num": 2, )"
     R"("kv_channels": 128, "padded_vocab_size": 151552, "add_qkv_bias": true)"},
    // model card of stabilityai/stablelm-3b-4e1t: 2,795,443,200
    {"stablelm-3b", 2795443200, 163840, "stablelm", of(2560, 6912, 32, 32, 50304), ""},
    // hub: internlm/internlm2_5-7b-chat, of the same shapes
    {"internlm2-7b", 7737708544, 65536, "internlm2", of(4096, 14336, 32, 32, 92544, 8), ""},
    // hub: MiniMaxAI/MiniMax-M2
    {"minimax-m2", 228689764864, 126976, "minimax_m2", of(3072, 1536, 62, 48, 200064, 8),
     R"("head_dim": 128, "num_local_experts": 256, "num_experts_per_tok": 8, )"
     R"("use_qk_norm": true)"},
    // hub: Qwen/Qwen3-Coder-Next, the same shapes without a layer that predicts further tokens.
    // With that layer, Qwen/Qwen3-Next-80B-A3B-Instruct has 81324862720.
    {"qwen3-next", 79674391296, 12288, "qwen3_next", of(2048, 5120, 48, 16, 151936, 2),
     R"("head_dim": 256, "num_experts": 512, "num_experts_per_tok": 10, )"
     R"("moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, )"
     R"("decoder_sparse_step": 1, "full_attention_interval": 4, "linear_num_key_heads": 16, )"
     R"("linear_num_value_heads": 32, "linear_key_head_dim": 128, )"
     R"("linear_value_head_dim": 128, "linear_conv_kernel_dim": 4)"},
    // log of swiss-ai/Apertus-8B-Instruct-2509: 8,053,338,176
    {"apertus-8b", 8053338176, 65536, "apertus", of(4096, 21504, 32, 32, 131072, 8), ""},
    // hub: ibm-granite/granite-guardian-3.2-3b-a800m, of the same shapes. The files of
    // ibm-granite/granite-3.0-3b-a800m-instruct, 6.75 GB, hold the tied embedding twice.
    {"granite-3.0-moe-3b", 3298793472, 32768, "granitemoe", of(1536, 512, 32, 24, 49155, 8),
     R"("num_local_experts": 40, "num_experts_per_tok": 8, "tie_word_embeddings": true)"},
    // log of generating with state-spaces/mamba-2.8b
    {"mamba-2.8b", 2768345600, 0, "mamba", kOthers,
     R"("hidden_size": 2560, "intermediate_size": 5120, "num_hidden_layers": 64, )"
     R"("state_size": 16, "conv_kernel": 4, "time_step_rank": 160, "vocab_size": 50280)"},
    // rounded: 7.27 billion, hub: tiiuae/falcon-mamba-7b
    {"falcon-mamba-7b", 7272665088, 0, "falcon_mamba", kOthers,
     R"("hidden_size": 4096, "intermediate_size": 8192, "num_hidden_layers": 64, )"
     R"("state_size": 16, "conv_kernel": 4, "time_step_rank": 256, "expand": 16, )"
     R"("tie_word_embeddings": false, "vocab_size": 65024)"},
    // announcement of Codestral Mamba by Mistral AI: 7,285,403,648
    {"mamba-codestral", 7285403648, 0, "mamba2", kOthers,
     R"("hidden_size": 4096, "num_hidden_layers": 64, "num_heads": 128, "head_dim": 64, )"
     R"("n_groups": 8, "state_size": 128, "conv_kernel": 4, "expand": 2, "vocab_size": 32768)"},
    // rounded: 2.68 billion, hub: google/recurrentgemma-2b
    {"recurrentgemma-2b", 2682862080, 4096, "recurrent_gemma", of(2560, 15360, 26, 10, 256000, 1),
     R"("lru_width": 2560, "conv1d_width": 4, "head_dim": 256, "attention_window_size": 2048, )"
     R"("_block_types": ["recurrent", "recurrent", "attention"])"},
    // rounded: 1.08 billion, arXiv 2404.14619
    {"openelm-1.1b", 1079891456, 21632, "openelm", kOthers,
     R"("model_dim": 2048, "head_dim": 64, "num_transformer_layers": 28, )"
     R"("num_query_heads": [16, 16, 16, 20, 20, 20, 20, 20, 20, 20, 24, 24, 24, 24, 24, 24, )"
     R"(24, 24, 28, 28, 28, 28, 28, 28, 32, 32, 32, 32], "num_kv_heads": [4, 4, 4, 5, 5, 5, 5, )"
     R"(5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8], )"
     R"("ffn_multipliers": [0.5, 0.63, 0.76, 0.89, 1.02, 1.15, 1.28, 1.41, 1.54, 1.67, 1.8, )"
     R"(1.93, 2.06, 2.19, 2.31, 2.44, 2.57, 2.7, 2.83, 2.96, 3.09, 3.22, 3.35, 3.48, 3.61, )"
     R"(3.74, 3.87, 4.0], "ffn_dim_divisor": 256, "ffn_with_glu": true, )"
     R"("normalize_qk_projections": true, "share_input_output_layers": true, )"
     R"("vocab_size": 32000)"},
    // rounded: 131.6 billion, hub: databricks/dbrx-instruct
    {"dbrx", 131596523520, 81920, "dbrx", kOthers,
     R"("d_model": 6144, "n_heads": 48, "n_layers": 40, "vocab_size": 100352, )"
     R"("attn_config": {"kv_n_heads": 8}, "ffn_config": {"ffn_hidden_size": 10752, )"
     R"("moe_num_experts": 16, "moe_top_k": 4})"},
    // log of a server that loaded Qwen-7B: 7721324544
    {"qwen-7b", 7721324544, 262144, "qwen", of(4096, 22016, 32, 32, 151936),
     R"("kv_channels": 128, "no_bias": true)"},
    // rounded: 80.4 billion, hub: tencent/Hunyuan-A13B-Instruct
    {"hunyuan-a13b", 80393183232, 65536, "hunyuan_v1_moe", of(4096, 3072, 32, 32, 128167, 8),
     R"("head_dim": 128, "num_experts": 64, "moe_topk": [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, )"
     R"(8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8], )"
     R"("moe_intermediate_size": [3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, )"
     R"(3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, )"
     R"(3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072], "num_shared_expert": [1, 1, 1, 1, 1, )"
     R"(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], )"
     R"("use_qk_norm": true, "use_cla": false, "tie_word_embeddings": true)"},
    // log of printing EleutherAI/gpt-neo-1.3B: 1315575808
    {"gpt-neo-1.3b", 1315575808, 98304, "gpt_neo", kOthers,
     R"("hidden_size": 2048, "num_heads": 16, "num_layers": 24, "attention_layers": ["global", )"
     R"("local", "global", "local", "global", "local", "global", "local", "global", "local", )"
     R"("global", "local", "global", "local", "global", "local", "global", "local", "global", )"
     R"("local", "global", "local", "global", "local"], "window_size": 256, )"
     R"("intermediate_size": null, "max_position_embeddings": 2048, "vocab_size": 50257)"},
};

class Families : public testing::TestWithParam<Published> {};

TEST_P(Families, HaveThePublishedParameters) {
  const Published& published = GetParam();
  const ModelConfig model =
      test::model_of(test::keys_of(published.type, published.shape, published.more));
  const auto expected = static_cast<double>(published.parameters);
  EXPECT_NEAR(static_cast<double>(parameter_count(model)), expected, 0.001 * expected);
  EXPECT_EQ(kv_elements_per_token(model), published.kv_elements);
}

INSTANTIATE_TEST_SUITE_P(Models, Families, testing::ValuesIn(kModels), [](const auto& instance) {
  std::string name = instance.param.name;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
});

}  // namespace
}  // namespace preserve
