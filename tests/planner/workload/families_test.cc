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
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "planner/workload/model/parameters.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

struct Published {
  const char* name;
  int64_t parameters;
  int64_t kv_elements;  // per token: 2 * layers with a cache * KV heads * head size
  const char* config;
};
void PrintTo(const Published& model, std::ostream* out) {
  *out << model.name;
}

const Published kModels[] = {
    // hub: meta-llama/Llama-3.1-8B, of the same shapes; index: 16060522496 / 2
    {"llama3-8b", 8030261248, 65536,
     R"({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 128256, )"
     R"("num_key_value_heads": 8, "tie_word_embeddings": false})"},
    // hub: meta-llama/Llama-3.2-1B-Instruct
    {"llama3.2-1b", 1235814400, 16384,
     R"({"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, )"
     R"("num_hidden_layers": 16, "num_attention_heads": 32, "vocab_size": 128256, )"
     R"("num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": true})"},
    // hub: mistralai/Mistral-7B-v0.1; index of Mistral-7B-Instruct-v0.2: 14483464192 / 2
    {"mistral-7b", 7241732096, 65536,
     R"({"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000, )"
     R"("num_key_value_heads": 8, "sliding_window": 4096})"},
    // KerasHub, preset mixtral_8_7b_en; hub: mistralai/Mixtral-8x7B-Instruct-v0.1
    {"mixtral-8x7b", 46702792704, 65536,
     R"({"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000, )"
     R"("num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2})"},
    // index of Qwen/Qwen2.5-7B-Instruct, of the same shapes: 15231233024 / 2
    {"qwen2-7b", 7615616512, 28672,
     R"({"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, )"
     R"("num_hidden_layers": 28, "num_attention_heads": 28, "vocab_size": 152064, )"
     R"("num_key_value_heads": 4})"},
    // hub: Qwen/Qwen2.5-0.5B-Instruct
    {"qwen2.5-0.5b", 494032768, 6144,
     R"({"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, )"
     R"("num_hidden_layers": 24, "num_attention_heads": 14, "vocab_size": 151936, )"
     R"("num_key_value_heads": 2, "tie_word_embeddings": true})"},
    // hub: Qwen/Qwen3-8B
    {"qwen3-8b", 8190735360, 73728,
     R"({"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, )"
     R"("num_hidden_layers": 36, "num_attention_heads": 32, "vocab_size": 151936, )"
     R"("num_key_value_heads": 8, "head_dim": 128})"},
    // hub: Qwen/Qwen3-30B-A3B
    {"qwen3-30b-a3b", 30532122624, 49152,
     R"({"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, )"
     R"("num_hidden_layers": 48, "num_attention_heads": 32, "vocab_size": 151936, )"
     R"("num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, )"
     R"("num_experts_per_tok": 8, "moe_intermediate_size": 768, )"
     R"("decoder_sparse_step": 1, "mlp_only_layers": []})"},
    // hub: Qwen/Qwen1.5-MoE-A2.7B; KerasHub, preset qwen1.5_moe_2.7b_en
    {"qwen1.5-moe", 14315784192, 98304,
     R"({"model_type": "qwen2_moe", "hidden_size": 2048, "intermediate_size": 5632, )"
     R"("num_hidden_layers": 24, "num_attention_heads": 16, "vocab_size": 151936, )"
     R"("num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408, )"
     R"("shared_expert_intermediate_size": 5632})"},
    // hub: microsoft/Phi-3-mini-4k-instruct
    {"phi-3-mini", 3821079552, 196608,
     R"({"model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32064})"},
    // index of microsoft/phi-2: 5559367680 / 2
    {"phi-2", 2779683840, 163840,
     R"({"model_type": "phi", "hidden_size": 2560, "intermediate_size": 10240, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 51200})"},
    // rounded: 41.873 billion, microsoft/Phi-3.5-MoE-instruct in the data set
    // cot-leaderboard/cot-leaderboard-requests of the hub
    {"phi-3.5-moe", 41873153344, 65536,
     R"({"model_type": "phimoe", "hidden_size": 4096, "intermediate_size": 6400, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32064, )"
     R"("num_key_value_heads": 8, "num_local_experts": 16, "num_experts_per_tok": 2, )"
     R"("attention_bias": true, "lm_head_bias": true})"},
    // Pythia README: 805,736,448 without embeddings, of which there are 2 * 50304 * 2048.
    // The hub has 512 more.
    {"pythia-1b", 1011781632, 65536,
     R"({"model_type": "gpt_neox", "hidden_size": 2048, "intermediate_size": 8192, )"
     R"("num_hidden_layers": 16, "num_attention_heads": 8, "vocab_size": 50304})"},
    // Pythia README: 6,444,163,072 without embeddings, of which there are 2 * 50432 * 4096
    {"pythia-6.9b", 6857302016, 262144,
     R"({"model_type": "gpt_neox", "hidden_size": 4096, "intermediate_size": 16384, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 50432})"},
    // KerasHub, preset gpt2_base_en; hub: 137022720 in gpt2, less 12 causal masks of 1024 * 1024
    {"gpt2", 124439808, 18432,
     R"({"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, )"
     R"("vocab_size": 50257, "n_positions": 1024})"},
    // log of a LoRA of EleutherAI/gpt-j-6B: 6054552800, of which LoRA 3670016. The model card says
    // 6053381344, 0.04 % more, and not why.
    {"gpt-j", 6050882784, 229376,
     R"({"model_type": "gptj", "n_embd": 4096, "n_head": 16, "n_layer": 28, )"
     R"("vocab_size": 50400, "tie_word_embeddings": false})"},
    // log of a LoRA of bigcode/starcoder, Hugging Face blog, personal-copilot: 15,627,884,544, of
    // which LoRA 110,428,160
    {"bigcode", 15517456384, 10240,
     R"({"model_type": "gpt_bigcode", "n_embd": 6144, "n_head": 48, "n_layer": 40, )"
     R"("vocab_size": 49152, "n_positions": 8192, "multi_query": true, "n_inner": 24576})"},
    // hub: peft-internal-testing/opt-125m. KerasHub, preset opt_125m_en, leaves out the two rows of
    // positions that stand for padding: 125237760.
    {"opt-125m", 125239296, 18432,
     R"({"model_type": "opt", "hidden_size": 768, "ffn_dim": 3072, )"
     R"("num_attention_heads": 12, "num_hidden_layers": 12, "vocab_size": 50272, )"
     R"("max_position_embeddings": 2048})"},
    // index of an MPT checkpoint of these shapes: 13298573312 / 2
    {"mpt-7b", 6649286656, 262144,
     R"({"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, )"
     R"("vocab_size": 50432, "expansion_ratio": 4})"},
    // log of a 4-bit LoRA of tiiuae/falcon-7b: 3,613,463,424, of which LoRA 4,718,592, where two
    // weights of a linear layer count as one. Tables that count the tied output head again,
    // 65024 * 4544, say 7217189760.
    {"falcon-7b", 6921720704, 4096,
     R"({"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71, )"
     R"("num_hidden_layers": 32, "vocab_size": 65024, "multi_query": true, )"
     R"("new_decoder_architecture": false, "parallel_attn": true, "bias": false})"},
    // KerasHub, preset gemma_2b_en
    {"gemma-2b", 2506172416, 9216,
     R"({"model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, )"
     R"("num_hidden_layers": 18, "num_attention_heads": 8, "vocab_size": 256000, )"
     R"("num_key_value_heads": 1, "head_dim": 256})"},
    // hub: google/gemma-2-9b; KerasHub, preset gemma2_9b_en
    {"gemma2-9b", 9241705984, 172032,
     R"({"model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, )"
     R"("num_hidden_layers": 42, "num_attention_heads": 16, "vocab_size": 256000, )"
     R"("num_key_value_heads": 8, "head_dim": 256, "sliding_window": 4096})"},
    // hub: google/gemma-3-1b-it; KerasHub, preset gemma3_1b
    {"gemma3-1b", 999885952, 13312,
     R"({"model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, )"
     R"("num_hidden_layers": 26, "num_attention_heads": 4, "vocab_size": 262144, )"
     R"("num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512})"},
    // rounded: 3.03 billion, bigcode/starcoder2-3b in the data set open-llm-leaderboard/requests of
    // the hub
    {"starcoder2-3b", 3030371328, 15360,
     R"({"model_type": "starcoder2", "hidden_size": 3072, "intermediate_size": 12288, )"
     R"("num_hidden_layers": 30, "num_attention_heads": 24, "vocab_size": 49152, )"
     R"("num_key_value_heads": 2, "use_bias": true})"},
    // hub: deepseek-ai/DeepSeek-V2-Lite
    {"deepseek-v2-lite", 15706484224, 15552,
     R"({"model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944, )"
     R"("num_hidden_layers": 27, "num_attention_heads": 16, "vocab_size": 102400, )"
     R"("kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, )"
     R"("v_head_dim": 128, "n_routed_experts": 64, "n_shared_experts": 2, )"
     R"("num_experts_per_tok": 6, "moe_intermediate_size": 1408, )"
     R"("first_k_dense_replace": 1, "moe_layer_freq": 1})"},
    // hub: microsoft/MAI-DS-R1, the same shapes without a layer that predicts further tokens. With
    // that layer, deepseek-ai/DeepSeek-R1 has 684489845504.
    {"deepseek-v3", 671026419200, 35136,
     R"({"model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, )"
     R"("num_hidden_layers": 61, "num_attention_heads": 128, "vocab_size": 129280, )"
     R"("kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, )"
     R"("qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256, )"
     R"("n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, )"
     R"("first_k_dense_replace": 3, "moe_layer_freq": 1, "num_nextn_predict_layers": 1})"},
    // hub: openai/gpt-oss-20b; its model card, arXiv 2508.10925: 20.91B
    {"gpt-oss-20b", 20914757184, 24576,
     R"({"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, )"
     R"("num_hidden_layers": 24, "num_attention_heads": 64, "vocab_size": 201088, )"
     R"("num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 32, )"
     R"("num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": true})"},
    // hub: openai/gpt-oss-120b; its model card, arXiv 2508.10925: 116.83B
    {"gpt-oss-120b", 116829156672, 36864,
     R"({"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, )"
     R"("num_hidden_layers": 36, "num_attention_heads": 64, "vocab_size": 201088, )"
     R"("num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 128, )"
     R"("num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": true})"},
    // the headers of the three weight files of allenai/OLMoE-1B-7B-0924
    {"olmoe", 6919161856, 65536,
     R"({"model_type": "olmoe", "hidden_size": 2048, "intermediate_size": 1024, )"
     R"("num_hidden_layers": 16, "num_attention_heads": 16, "vocab_size": 50304, )"
     R"("num_experts": 64, "num_experts_per_tok": 8})"},
    // hub: allenai/OLMo-2-1124-7B
    {"olmo2-7b", 7298617344, 262144,
     R"({"model_type": "olmo2", "hidden_size": 4096, "intermediate_size": 11008, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 100352})"},
    // hub: HuggingFaceTB/SmolLM3-3B; index: 6150197248 / 2
    {"smollm3", 3075098624, 36864,
     R"({"model_type": "smollm3", "hidden_size": 2048, "intermediate_size": 11008, )"
     R"("num_hidden_layers": 36, "num_attention_heads": 16, "vocab_size": 128256, )"
     R"("num_key_value_heads": 4})"},
    // index of a Jamba checkpoint of these shapes: 103140646656 / 2
    {"jamba", 51570323328, 8192,
     R"({"model_type": "jamba", "hidden_size": 4096, "intermediate_size": 14336, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 65536, )"
     R"("num_key_value_heads": 8, "num_experts": 16, "num_experts_per_tok": 2, )"
     R"("attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_period": 2, )"
     R"("expert_layer_offset": 1, "mamba_d_state": 16, "mamba_d_conv": 4, )"
     R"("mamba_expand": 2, "mamba_dt_rank": 256})"},
    // model card of LFM2: 1,170,340,608
    {"lfm2-1.2b", 1170340608, 6144,
     R"({"model_type": "lfm2", "hidden_size": 2048, "block_ff_dim": 12288, )"
     R"("block_auto_adjust_ff_dim": true, "block_multiple_of": 256, )"
     R"("num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 16, )"
     R"("vocab_size": 65536, "conv_L_cache": 3, "layer_types": ["conv", "conv", )"
     R"("full_attention", "conv", "conv", "full_attention", "conv", "conv", )"
     R"("full_attention", "conv", "full_attention", "conv", "full_attention", "conv", )"
     R"("full_attention", "conv"]})"},
    // rounded: 34.981 billion, CohereForAI/c4ai-command-r-v01 in the data set OALL/requests of the
    // hub
    {"command-r", 34980831232, 655360,
     R"({"model_type": "cohere", "hidden_size": 8192, "intermediate_size": 22528, )"
     R"("num_hidden_layers": 40, "num_attention_heads": 64, "vocab_size": 256000})"},
    // log of glm-4-9b-chat: 9399951392 with the 32 frequencies of its rotary embedding
    {"glm4-9b", 9399951360, 20480,
     R"({"model_type": "chatglm", "hidden_size": 4096, "ffn_hidden_size": 13696, )"
     R"("num_layers": 40, "num_attention_heads": 32, "multi_query_attention": true, )"
     R"("multi_query_group_num": 2, "kv_channels": 128, "padded_vocab_size": 151552, )"
     R"("add_qkv_bias": true})"},
    // model card of stabilityai/stablelm-3b-4e1t: 2,795,443,200
    {"stablelm-3b", 2795443200, 163840,
     R"({"model_type": "stablelm", "hidden_size": 2560, "intermediate_size": 6912, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 50304})"},
    // hub: internlm/internlm2_5-7b-chat, of the same shapes
    {"internlm2-7b", 7737708544, 65536,
     R"({"model_type": "internlm2", "hidden_size": 4096, "intermediate_size": 14336, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 92544, )"
     R"("num_key_value_heads": 8})"},
    // hub: MiniMaxAI/MiniMax-M2
    {"minimax-m2", 228689764864, 126976,
     R"({"model_type": "minimax_m2", "hidden_size": 3072, "intermediate_size": 1536, )"
     R"("num_hidden_layers": 62, "num_attention_heads": 48, "vocab_size": 200064, )"
     R"("num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 256, )"
     R"("num_experts_per_tok": 8, "use_qk_norm": true})"},
    // hub: Qwen/Qwen3-Coder-Next, the same shapes without a layer that predicts further tokens.
    // With that layer, Qwen/Qwen3-Next-80B-A3B-Instruct has 81324862720.
    {"qwen3-next", 79674391296, 12288,
     R"({"model_type": "qwen3_next", "hidden_size": 2048, "intermediate_size": 5120, )"
     R"("num_hidden_layers": 48, "num_attention_heads": 16, "vocab_size": 151936, )"
     R"("num_key_value_heads": 2, "head_dim": 256, "num_experts": 512, )"
     R"("num_experts_per_tok": 10, "moe_intermediate_size": 512, )"
     R"("shared_expert_intermediate_size": 512, "decoder_sparse_step": 1, )"
     R"("full_attention_interval": 4, "linear_num_key_heads": 16, )"
     R"("linear_num_value_heads": 32, "linear_key_head_dim": 128, )"
     R"("linear_value_head_dim": 128, "linear_conv_kernel_dim": 4})"},
    // log of swiss-ai/Apertus-8B-Instruct-2509: 8,053,338,176
    {"apertus-8b", 8053338176, 65536,
     R"({"model_type": "apertus", "hidden_size": 4096, "intermediate_size": 21504, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 131072, )"
     R"("num_key_value_heads": 8})"},
    // hub: ibm-granite/granite-guardian-3.2-3b-a800m, of the same shapes. The files of
    // ibm-granite/granite-3.0-3b-a800m-instruct, 6.75 GB, hold the tied embedding twice.
    {"granite-3.0-moe-3b", 3298793472, 32768,
     R"({"model_type": "granitemoe", "hidden_size": 1536, "intermediate_size": 512, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 24, "vocab_size": 49155, )"
     R"("num_key_value_heads": 8, "num_local_experts": 40, "num_experts_per_tok": 8, )"
     R"("tie_word_embeddings": true})"},
    // log of generating with state-spaces/mamba-2.8b
    {"mamba-2.8b", 2768345600, 0,
     R"({"model_type": "mamba", "hidden_size": 2560, "intermediate_size": 5120, )"
     R"("num_hidden_layers": 64, "state_size": 16, "conv_kernel": 4, )"
     R"("time_step_rank": 160, "vocab_size": 50280})"},
    // rounded: 7.27 billion, hub: tiiuae/falcon-mamba-7b
    {"falcon-mamba-7b", 7272665088, 0,
     R"({"model_type": "falcon_mamba", "hidden_size": 4096, "intermediate_size": )"
     R"(8192, "num_hidden_layers": 64, "state_size": 16, "conv_kernel": 4, )"
     R"("time_step_rank": 256, "expand": 16, "tie_word_embeddings": false, )"
     R"("vocab_size": 65024})"},
    // announcement of Codestral Mamba by Mistral AI: 7,285,403,648
    {"mamba-codestral", 7285403648, 0,
     R"({"model_type": "mamba2", "hidden_size": 4096, "num_hidden_layers": 64, )"
     R"("num_heads": 128, "head_dim": 64, "n_groups": 8, "state_size": 128, )"
     R"("conv_kernel": 4, "expand": 2, "vocab_size": 32768})"},
    // rounded: 2.68 billion, hub: google/recurrentgemma-2b
    {"recurrentgemma-2b", 2682862080, 4096,
     R"({"model_type": "recurrent_gemma", "hidden_size": 2560, "intermediate_size": )"
     R"(15360, "lru_width": 2560, "conv1d_width": 4, "num_attention_heads": 10, )"
     R"("num_key_value_heads": 1, "head_dim": 256, "num_hidden_layers": 26, )"
     R"("attention_window_size": 2048, "_block_types": ["recurrent", "recurrent", )"
     R"("attention"], "vocab_size": 256000})"},
    // rounded: 1.08 billion, arXiv 2404.14619
    {"openelm-1.1b", 1079891456, 21632,
     R"({"model_type": "openelm", "model_dim": 2048, "head_dim": 64, )"
     R"("num_transformer_layers": 28, "num_query_heads": [16, 16, 16, 20, 20, 20, 20, )"
     R"(20, 20, 20, 24, 24, 24, 24, 24, 24, 24, 24, 28, 28, 28, 28, 28, 28, 32, 32, )"
     R"(32, 32], "num_kv_heads": [4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, )"
     R"(6, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8], "ffn_multipliers": [0.5, 0.63, 0.76, 0.89, )"
     R"(1.02, 1.15, 1.28, 1.41, 1.54, 1.67, 1.8, 1.93, 2.06, 2.19, 2.31, 2.44, 2.57, )"
     R"(2.7, 2.83, 2.96, 3.09, 3.22, 3.35, 3.48, 3.61, 3.74, 3.87, 4.0], )"
     R"("ffn_dim_divisor": 256, "ffn_with_glu": true, "normalize_qk_projections": )"
     R"(true, "share_input_output_layers": true, "vocab_size": 32000})"},
    // rounded: 131.6 billion, hub: databricks/dbrx-instruct
    {"dbrx", 131596523520, 81920,
     R"({"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, )"
     R"("vocab_size": 100352, "attn_config": {"kv_n_heads": 8}, "ffn_config": )"
     R"({"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4}})"},
    // log of a server that loaded Qwen-7B: 7721324544
    {"qwen-7b", 7721324544, 262144,
     R"({"model_type": "qwen", "hidden_size": 4096, "intermediate_size": 22016, )"
     R"("num_hidden_layers": 32, "num_attention_heads": 32, "kv_channels": 128, )"
     R"("no_bias": true, "vocab_size": 151936})"},
    // rounded: 80.4 billion, hub: tencent/Hunyuan-A13B-Instruct
    {"hunyuan-a13b", 80393183232, 65536,
     R"({"model_type": "hunyuan_v1_moe", "hidden_size": 4096, "intermediate_size": )"
     R"(3072, "num_hidden_layers": 32, "num_attention_heads": 32, )"
     R"("num_key_value_heads": 8, "head_dim": 128, "num_experts": 64, "moe_topk": [8, )"
     R"(8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, )"
     R"(8, 8, 8, 8, 8], "moe_intermediate_size": [3072, 3072, 3072, 3072, 3072, 3072, )"
     R"(3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, )"
     R"(3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, 3072, )"
     R"(3072], "num_shared_expert": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, )"
     R"(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], "use_qk_norm": true, )"
     R"("use_cla": false, "tie_word_embeddings": true, "vocab_size": 128167})"},
    // log of printing EleutherAI/gpt-neo-1.3B: 1315575808
    {"gpt-neo-1.3b", 1315575808, 98304,
     R"({"model_type": "gpt_neo", "hidden_size": 2048, "num_heads": 16, "num_layers": 24, )"
     R"("attention_layers": ["global", "local", "global", "local", "global", "local", )"
     R"("global", "local", "global", "local", "global", "local", "global", "local", )"
     R"("global", "local", "global", "local", "global", "local", "global", "local", )"
     R"("global", "local"], "window_size": 256, "intermediate_size": null, )"
     R"("max_position_embeddings": 2048, "vocab_size": 50257})"},
};

class Families : public testing::TestWithParam<Published> {};

TEST_P(Families, HaveThePublishedParameters) {
  const Published& published = GetParam();
  const test::TemporaryDirectory directory;
  std::ofstream(directory / "m.json") << published.config;
  const ModelConfig model = load_model_config(directory / "m.json");
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
