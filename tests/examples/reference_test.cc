// SPDX-License-Identifier: Apache-2.0
// The decoder computes a Llama model: the same tokens and logits as a plain forward pass in double
// precision, whatever the number of ranks.
#include "tests/examples/reference.h"

#include <gtest/gtest.h>

#include "tests/examples/decoder_run.h"

namespace tp_decoder::test {
namespace {

using preserve::test::TemporaryDirectory;

// fp32 against double over two layers of width 48: errors stay near 1e-6.
constexpr double kLogitTolerance = 1e-4;

struct Case {
  const char* name;
  nlohmann::json changes;  // to tiny_config()
  int64_t batch;
};

void PrintTo(const Case& value, std::ostream* out) {
  *out << value.name;
}

class Reference : public testing::TestWithParam<Case> {};

TEST_P(Reference, SameTokensAndLogitsOnAnyNumberOfRanks) {
  constexpr int64_t kPrompt = 5, kSteps = 12;
  constexpr uint64_t kSeed = 7;
  nlohmann::json config = tiny_config();
  config.update(GetParam().changes);
  const int64_t batch = GetParam().batch;
  const auto expected = reference_tokens(config, kPrompt, kSteps, batch, kSeed);
  for (const ReferenceToken& token : expected) {
    ASSERT_GT(token.lead, 10 * kLogitTolerance) << "rounding could decide: choose another seed";
  }
  const TemporaryDirectory directory;
  const std::string path = write_config(directory, config);
  for (const int ranks : {0, 1, 2, 4}) {
    const auto run =
        run_decoder(ranks, {"--config", path, "--prompt", "5", "--tokens", "12", "--seed", "7",
                            "--batch", std::to_string(batch), "--print-tokens"});
    ASSERT_EQ(run.exit_code, 0) << run.out << run.err;
    const auto tokens = printed_tokens(run);
    ASSERT_EQ(tokens.size(), expected.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      EXPECT_EQ(tokens[i].id, expected[i].id) << "token " << i << ", ranks " << ranks;
      EXPECT_NEAR(tokens[i].logit, expected[i].logit, kLogitTolerance) << "token " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, Reference,
    testing::Values(
        Case{"GroupedQuery", nlohmann::json::object(), 1},
        Case{"HeadPerKey", {{"num_key_value_heads", 8}}, 1},
        Case{"Qwen2BiasTied", {{"model_type", "qwen2"}, {"tie_word_embeddings", true}}, 1},
        Case{"BiasOnOutputToo", {{"attention_bias", true}}, 1},
        Case{"Phi3", {{"model_type", "phi3"}, {"sliding_window", 40}}, 1},
        Case{"ThreeSequences", nlohmann::json::object(), 3}),
    [](const testing::TestParamInfo<Case>& model) { return std::string(model.param.name); });

TEST(Checksum, SameSeedSameTextOtherSeedOtherText) {
  const TemporaryDirectory directory;
  const std::string path = write_config(directory, tiny_config());
  const auto checksum = [&](int ranks, const char* seed) {
    const auto run = run_decoder(ranks, {"--config", path, "--seed", seed, "--tokens", "20"});
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return value_of(run, "checksum");
  };
  const std::string first = checksum(2, "1");
  EXPECT_EQ(first.size(), 16u);
  EXPECT_EQ(checksum(2, "1"), first);
  EXPECT_EQ(checksum(4, "1"), first);
  EXPECT_NE(checksum(2, "2"), first);
}

TEST(Decoder, LayersCutsTheModelAndBlasThreadsDoNotChangeTheText) {
  const TemporaryDirectory directory;
  const std::string path = write_config(directory, tiny_config());
  nlohmann::json one_layer = tiny_config();
  one_layer["num_hidden_layers"] = 1;
  const std::string shorter = write_config(directory, one_layer, "shorter.json");
  const auto cut = run_decoder(0, {"--config", path, "--layers", "1"});
  const auto built = run_decoder(0, {"--config", shorter, "--threads", "2"});
  const auto full = run_decoder(0, {"--config", path});
  EXPECT_EQ(value_of(cut, "checksum"), value_of(built, "checksum"));
  EXPECT_NE(value_of(cut, "checksum"), value_of(full, "checksum"));
  EXPECT_GT(std::stod(value_of(full, "tokens/s")), 0);
}

}  // namespace
}  // namespace tp_decoder::test
