// SPDX-License-Identifier: Apache-2.0
// What a tool sees: the module ranges of each step, and memory regions with the right names and
// sizes. And that being seen changes nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "tests/examples/decoder_run.h"

namespace tp_decoder::test {
namespace {

using testing::Contains;
using testing::Pair;

constexpr int64_t kPrompt = 5, kSteps = 3;

struct Seen {
  std::vector<std::vector<std::string>> steps;  // names below each outermost range, its own first
  std::map<std::string, int64_t> first_bytes, last_bytes;  // of each region, by name
  std::map<std::string, int64_t> heap_bytes;
  int depth = 0;
  int deepest = 0;
};

Seen read_probe(const std::string& path) {
  std::ifstream file(path);
  Seen seen;
  std::map<std::string, std::string> names;           // by base address
  std::map<std::string, std::vector<int64_t>> sizes;  // by base address, in order
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string verb, subject;
    words >> verb >> subject;
    int64_t bytes = 0;
    if (verb == "push") {
      if (seen.depth++ == 0) seen.steps.emplace_back();
      seen.steps.back().push_back(subject);
      seen.deepest = std::max(seen.deepest, seen.depth);
    } else if (verb == "pop") {
      --seen.depth;
    } else if (verb == "name") {
      words >> names[subject];
    } else if (words >> bytes) {
      if (verb == "heap") {
        seen.heap_bytes[subject] = bytes;
      } else {
        sizes[subject].push_back(bytes);
      }
    }
  }
  for (const auto& entry : sizes) {
    const std::string& name = names[entry.first];
    EXPECT_FALSE(name.empty()) << "a region without a name";
    EXPECT_EQ(seen.first_bytes.count(name), 0u) << name << " registered twice";
    seen.first_bytes[name] = entry.second.front();
    seen.last_bytes[name] = entry.second.back();
  }
  return seen;
}

class Annotation : public testing::Test {
 protected:
  std::vector<std::string> arguments() const {
    return {"--config",      config_,
            "--prompt",      std::to_string(kPrompt),
            "--tokens",      std::to_string(kSteps),
            "--max-context", "40"};
  }
  Seen run_probed() {
    const std::string out = directory_ / "probe.txt";
    run_ =
        run_decoder(0, arguments(), {"NVTX_INJECTION64_PATH=" NVTX_PROBE, "NVTX_PROBE_OUT=" + out});
    EXPECT_EQ(run_.exit_code, 0) << run_.err;
    return read_probe(out);
  }

  const preserve::test::TemporaryDirectory directory_;
  const std::string config_ = write_config(directory_, tiny_config());
  preserve::test::Run run_;
};

TEST_F(Annotation, EveryStepRunsItsModulesInOrder) {
  const Seen seen = run_probed();
  EXPECT_EQ(seen.depth, 0);
  EXPECT_EQ(seen.deepest, 2);  // a step, and one module in it
  std::vector<std::string> modules = {"embed", "embed.allreduce"};
  for (const std::string layer : {"layers.0.", "layers.1."}) {
    for (const char* module :
         {"attn.norm", "attn.qkv", "attn.rope", "attn.core", "attn.o_proj", "attn.allreduce",
          "mlp.norm", "mlp.gate_up", "mlp.act", "mlp.down", "mlp.allreduce"}) {
      modules.push_back(layer + module);
    }
  }
  for (const char* module : {"final_norm", "lm_head", "sample", "sample.allreduce"}) {
    modules.push_back(module);
  }
  ASSERT_EQ(seen.steps.size(), size_t(1 + kSteps));
  for (size_t i = 0; i < seen.steps.size(); ++i) {
    std::vector<std::string> expected = modules;
    expected.insert(expected.begin(), i == 0 ? "prefill_step" : "decode_step");
    EXPECT_THAT(seen.steps[i], testing::ElementsAreArray(expected));
  }
}

TEST_F(Annotation, WeightsHaveTheirSizesAndBelongToAModule) {
  const Seen seen = run_probed();
  constexpr int64_t kFloat = 4, kHidden = 48;
  const auto& bytes = seen.first_bytes;
  EXPECT_THAT(bytes, Contains(Pair("layers.1.attn.norm.weight", kHidden * kFloat)));
  EXPECT_THAT(bytes, Contains(Pair("layers.1.attn.qkv.weight", 160 * kHidden * kFloat)));
  EXPECT_THAT(bytes, Contains(Pair("layers.1.attn.o_proj.weight", 80 * kHidden * kFloat)));
  EXPECT_THAT(bytes, Contains(Pair("layers.1.mlp.gate_up.weight", 2 * 70 * kHidden * kFloat)));
  EXPECT_THAT(bytes, Contains(Pair("layers.1.mlp.down.weight", 70 * kHidden * kFloat)));
  EXPECT_THAT(bytes, Contains(Pair("embed_tokens.weight", 101 * kHidden * kFloat)));
  EXPECT_THAT(bytes, Contains(Pair("lm_head.weight", 101 * kHidden * kFloat)));
  EXPECT_EQ(seen.heap_bytes.size(), 2u);
  int64_t all_weights = 0;
  for (const auto& entry : bytes) {
    if (entry.first.find("_cache") == std::string::npos) all_weights += entry.second;
  }
  EXPECT_GE(seen.heap_bytes.at("weights"), all_weights);

  ASSERT_FALSE(seen.steps.empty());
  const std::set<std::string> modules(seen.steps[0].begin(), seen.steps[0].end());
  for (const auto& entry : bytes) {
    if (entry.first == "embed_tokens.weight") continue;  // looked up by row, not read as a whole
    const std::string module = entry.first.substr(0, entry.first.rfind('.'));
    EXPECT_EQ(modules.count(module), 1u) << entry.first;
  }
}

TEST_F(Annotation, KvRegionsGrowWithTheText) {
  const Seen seen = run_probed();
  constexpr int64_t kTokenBytes = 4 * 10 * 4;  // kv heads x head_dim x fp32
  int caches = 0;
  for (const auto& entry : seen.first_bytes) {
    if (entry.first.find("_cache") == std::string::npos) continue;
    ++caches;
    EXPECT_EQ(entry.second, kPrompt * kTokenBytes) << entry.first;
    EXPECT_EQ(seen.last_bytes.at(entry.first), (kPrompt + kSteps) * kTokenBytes) << entry.first;
  }
  EXPECT_EQ(caches, 4);  // keys and values of two layers
  EXPECT_GE(seen.heap_bytes.at("kv_cache"), 4 * 40 * kTokenBytes);
  EXPECT_EQ(seen.first_bytes.count("layers.1.attn.core.k_cache"), 1u);
  EXPECT_EQ(seen.first_bytes.count("layers.0.attn.core.v_cache"), 1u);
}

TEST_F(Annotation, ATableSharedWithTheOutputIsNamedAfterTheOutput) {
  nlohmann::json tied = tiny_config();
  tied["tie_word_embeddings"] = true;
  write_config(directory_, tied);
  const Seen seen = run_probed();
  EXPECT_EQ(seen.first_bytes.count("lm_head.weight"), 1u);
  EXPECT_EQ(seen.first_bytes.count("embed_tokens.weight"), 0u);
}

TEST_F(Annotation, AToolChangesNoToken) {
  run_probed();
  EXPECT_EQ(value_of(run_, "checksum"), value_of(run_decoder(0, arguments()), "checksum"));
}

}  // namespace
}  // namespace tp_decoder::test
