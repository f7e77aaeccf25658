// SPDX-License-Identifier: Apache-2.0
// Bad configs and options end with exit 2 and a message that names file and key; the shipped models
// are all understood.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "examples/tp_decoder/config.h"
#include "examples/tp_decoder/error.h"
#include "tests/examples/decoder_run.h"
#include "tests/support/paths.h"

namespace tp_decoder::test {
namespace {

using preserve::test::TemporaryDirectory;
using testing::AllOf;
using testing::HasSubstr;

std::string refusal_of_text(const std::string& text, const char* name = "broken.json") {
  const TemporaryDirectory directory;
  std::ofstream(directory / name, std::ios::binary) << text;
  try {
    load_config(directory / name, false);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

std::string refusal(const nlohmann::json& config) {
  return refusal_of_text(config.dump(), "tiny.json");
}

TEST(Config, EveryNumberIsCheckedAndNamed) {
  const nlohmann::json wrong_values = {
      nullptr, -1,        0, 1e300, "48", 3.5, true, 9223372036854775807, 18446744073709551615u,
      {48},    {{"a", 1}}};
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads",
                          "intermediate_size", "vocab_size"}) {
    for (const nlohmann::json& value : wrong_values) {
      nlohmann::json config = tiny_config();
      config[key] = value;
      EXPECT_THAT(refusal(config), AllOf(HasSubstr("tiny.json: "), HasSubstr(key))) << value;
    }
    nlohmann::json config = tiny_config();
    config.erase(key);
    EXPECT_THAT(refusal(config), AllOf(HasSubstr(key), HasSubstr("missing")));
  }
}

struct Change {
  const char* key;
  nlohmann::json value;
};

TEST(Config, WhatWouldComputeSomethingElseIsRefused) {
  const std::vector<Change> changes = {
      {"model_type", "mixtral"},
      {"model_type", "phi3small"},
      {"model_type", 3},
      {"hidden_act", "gelu"},
      {"partial_rotary_factor", 0.5},
      {"mlp_bias", true},
      {"num_local_experts", 8},
      {"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8}}},
      {"rope_scaling", "linear"},
      {"rope_parameters", {{"rope_type", "yarn"}}},
      {"num_key_value_heads", 3},
      {"head_dim", 7},
      {"head_dim", nullptr},
      {"rms_norm_eps", 0},
      {"rms_norm_eps", -1e-5},
      {"rms_norm_eps", "small"},
      {"rope_theta", 0},
      {"tie_word_embeddings", "yes"},
      {"attention_bias", 1},
      {"max_position_embeddings", 0},
      {"sliding_window", 0},
      {"sliding_window", -1},
  };
  for (const Change& change : changes) {
    nlohmann::json config = tiny_config();
    config[change.key] = change.value;
    if (config["head_dim"].is_null()) config["hidden_size"] = 50;  // 8 heads do not divide it
    const char* named = change.value.is_null() ? "num_attention_heads" : change.key;
    EXPECT_THAT(refusal(config), AllOf(HasSubstr("tiny.json: "), HasSubstr(named)))
        << change.key << " " << change.value;
  }
}

TEST(Config, FilesThatAreNoConfigAreRefused) {
  EXPECT_THAT(refusal_of_text(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal_of_text("{\"hidden_size\": 4"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal_of_text("[1, 2]"), HasSubstr("no JSON object"));
  EXPECT_THAT(refusal_of_text(std::string(2 << 20, ' ')), HasSubstr("1 MiB"));
  EXPECT_THAT(refusal_of_text("{\"model_type\": \"\xff\xfe\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal_of_text(std::string(100'000, '[')), HasSubstr("not valid JSON"));
  const TemporaryDirectory directory;
  EXPECT_THROW(load_config(directory.path(), false), Error);
  EXPECT_THROW(load_config(directory / "absent.json", false), Error);
}

TEST(Config, SpellingsOfTheSameModelAreUnderstood) {
  nlohmann::json config = tiny_config();
  config.erase("rope_theta");
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 777.0}};
  config["rope_scaling"] = nullptr;
  config.erase("head_dim");
  config.erase("num_key_value_heads");
  config["sliding_window"] = 33;
  const TemporaryDirectory directory;
  const ModelConfig model = load_config(write_config(directory, config), false);
  EXPECT_EQ(model.rope_theta, 777.0);
  EXPECT_EQ(model.head_dim, 6);
  EXPECT_EQ(model.kv_heads, 8);
  EXPECT_EQ(model.max_context, 33);
  // Qwen2 writes a window that it does not use.
  config["model_type"] = "qwen2";
  EXPECT_EQ(load_config(write_config(directory, config), false).max_context, 100);
}

TEST(Config, ShippedModelsAreUnderstood) {
  int models = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(PRESERVE_SOURCE_DIR "/examples/models")) {
    const bool other_mathematics = entry.path().stem() == "phi-3-small";
    const ModelConfig model = load_config(entry.path(), other_mathematics);
    EXPECT_EQ(model.name, entry.path().stem());
    if (other_mathematics) {
      EXPECT_THROW(load_config(entry.path(), false), Error);
    }
    ++models;
  }
  EXPECT_EQ(models, 8);
  const ModelConfig llama =
      load_config(PRESERVE_SOURCE_DIR "/examples/models/llama3-8b.json", false);
  EXPECT_EQ(llama.hidden, 4096);
  EXPECT_EQ(llama.kv_heads, 8);
  EXPECT_EQ(llama.head_dim, 128);
  EXPECT_EQ(llama.rope_theta, 500000.0);
}

struct BadRun {
  std::vector<std::string> arguments;
  std::string message;
};

TEST(CommandLine, BadOptionsEndWithExitTwo) {
  const TemporaryDirectory directory;
  const std::string path = write_config(directory, tiny_config());
  const std::string large = PRESERVE_SOURCE_DIR "/examples/models/llama3-70b.json";
  const std::vector<BadRun> runs = {
      {{}, "--config is required"},
      {{"--config", path, "--tokens", "0"}, "--tokens"},
      {{"--config", path, "--tokens", "nine"}, "--tokens"},
      {{"--config", path, "--seed", "-1"}, "--seed"},
      {{"--config", path, "--batch", "1000"}, "--batch"},
      {{"--config", path, "--layers", "3"}, "has only 2"},
      {{"--config", path, "--tokens", "90"}, "allows 100"},
      {{"--config", path, "--max-context", "10"}, "--max-context 10"},
      {{"--config", path, "extra"}, "extra"},
      {{"--config", "/nonexistent.json"}, "/nonexistent.json: cannot be opened"},
      {{"--config", large, "--max-context", "8192", "--batch", "256"}, "not enough memory"},
  };
  for (const BadRun& bad : runs) {
    const auto run = run_decoder(0, bad.arguments);
    EXPECT_EQ(run.exit_code, 2) << bad.message << run.out << run.err;
    EXPECT_THAT(run.err, HasSubstr(bad.message));
    EXPECT_THAT(run.out, testing::Not(HasSubstr("checksum")));
  }
}

TEST(CommandLine, AnErrorIsPrintedOnceByManyRanks) {
  const TemporaryDirectory directory;
  nlohmann::json config = tiny_config();
  config["num_key_value_heads"] = 2;
  const auto run = run_decoder(4, {"--config", write_config(directory, config)});
  EXPECT_EQ(run.exit_code, 2) << run.err;
  const std::string message = "num_key_value_heads 2 cannot be split over 4 ranks";
  EXPECT_THAT(run.err, HasSubstr(message));
  EXPECT_EQ(run.err.find(message), run.err.rfind(message)) << run.err;
}

TEST(CommandLine, HelpGoesToStandardOutput) {
  const auto run = run_decoder(0, {"--help"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.out, AllOf(HasSubstr("--max-context"), HasSubstr("Exit codes: 0 done, 2")));
  EXPECT_THAT(run.err, testing::IsEmpty());
}

}  // namespace
}  // namespace tp_decoder::test
