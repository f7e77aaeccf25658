// SPDX-License-Identifier: Apache-2.0
// preserve-tune trace.db --model and --phase, black box. With PRESERVE_REAL_TRACES also real traces
// of models whose dimensions are published.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <regex>

#include "common/output_file.h"
#include "planner/workload/workload_options.h"
#include "tests/planner/workload/align/engine_trace.h"
#include "tests/planner/workload/examples.h"
#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::TemporaryDirectory;
using test::Words;
using test::words;
using testing::AllOf;
using testing::HasSubstr;

const std::string kTune = PRESERVE_BIN_DIR "/preserve-tune";
const std::string kH100 = test::device_file("h100-sxm");

class TuneTraceWithModel : public testing::Test {
 protected:
  // Of llama3-8b on 8 ranks, 16 sequences.
  void record(const test::EngineTrace& engine, const std::function<void(TraceDb&)>& tweak = {}) {
    WorkloadOptions options;
    options.model = model_;
    WorkloadSpec spec = workload_spec(options);
    spec.ranks = 8;
    spec.batch = 16;
    spec.context = 2000;
    test::write_engine_trace(directory_ / "trace.db", test::on_h100(spec), engine, tweak);
  }

  test::Run tune(const Words& options) {
    return test::run_program(words(kTune, "trace.db", "--device", kH100, options), {},
                             directory_.path());
  }

  json schedule(const char* name) { return json::parse(read_text_file(directory_ / name)); }
  bool exists(const char* name) { return fs::exists(directory_ / name); }

  const std::string model_ = test::model_file("llama3-8b");
  TemporaryDirectory directory_;
};

TEST_F(TuneTraceWithModel, PlansARecordingThatNamesNothing) {
  record({.ranks_recorded = 2, .messages = true});
  const test::Run without = tune({});
  EXPECT_THAT(without.out, HasSubstr("no operator reads a named tensor"));
  const test::Run run = succeeded(tune({"--model", model_, "--context", "2000", "--explain"}));
  EXPECT_THAT(run.out,
              AllOf(HasSubstr("16 tokens (the messages of the allreduces) on 8 ranks"),
                    HasSubstr("bytes known for 100.0 %"), HasSubstr("layers.0 to layers.31")));
  const json plan = schedule("schedule.json");
  EXPECT_EQ(plan["verdict"], "prefetch");
  EXPECT_EQ(plan["trace"]["path"], "trace-model.db");
  EXPECT_FALSE(plan["trace"].contains("phase"));
  EXPECT_THAT(plan.dump(), HasSubstr("layers.1.attn.qkv.weight"));
  EXPECT_TRUE(exists("trace-model.db"));
  EXPECT_THAT(run.err, HasSubstr("preserve-replay trace-model.db schedule.json"));
  EXPECT_EQ(tune({"--model", model_}).exit_code, 2) << "nothing is overwritten";
}

TEST_F(TuneTraceWithModel, RefusesWhatDoesNotGoTogether) {
  record({});
  const auto refused = [&](const Words& options, const char* text) {
    EXPECT_THAT(tune(words(options, "-o", "s.json", "--trace-out", "t.db")),
                test::exits(2, HasSubstr(text)));
    EXPECT_FALSE(exists("s.json") || exists("t.db"));
  };
  refused({"--model", model_, "--print", "step"}, "--print");
  refused({"--model", model_, "--engine-overhead", "1.4"}, "--engine-overhead");
  refused({"--model", model_, "--allreduce-time", "9us"}, "--allreduce-time");
  refused({"--model", test::model_file("qwen2-7b"), "--tp", "4"}, "the model has");
  refused({"--model", "absent.json"}, "absent.json");
  refused({"--model", model_, "--phase", "prefill"}, "no prefill step");
}

TEST_F(TuneTraceWithModel, EachPhaseGetsItsSchedule) {
  record({.steps = 8, .messages = true},
         [](TraceDb& db) { db.execute("UPDATE step SET phase = 'prefill' WHERE ordinal < 3"); });
  const auto with = [&](const Words& options) {
    return tune(words(options, "--model", model_, "--context", "2000", "-f"));
  };
  const test::Run any = succeeded(with({"--phase", "any"}));
  EXPECT_FALSE(schedule("schedule.json")["trace"].contains("phase"));
  EXPECT_EQ(schedule("schedule-prefill.json")["trace"]["phase"], "prefill");
  EXPECT_THAT(any.err, AllOf(HasSubstr("phase of the step: decode, "),
                             HasSubstr("phase of the step: prefill, ")));
  EXPECT_THAT(with({"--phase", "any", "-o", "-"}).err, HasSubstr("two schedules"));
  const test::Run prefill = succeeded(with({"--phase", "prefill", "-o", "only.json"}));
  EXPECT_EQ(schedule("only.json")["trace"]["phase"], "prefill");
}

TEST_F(TuneTraceWithModel, ARecordingOfPrefillsAloneIsPlannedWithAWarning) {
  record({.messages = true, .phase = StepPhase::prefill});
  EXPECT_THAT(tune({"--model", model_}),
              test::exits(0, HasSubstr("only prefill steps were recorded")));
  EXPECT_EQ(schedule("schedule.json")["trace"]["phase"], "prefill");
  EXPECT_EQ(tune({"--phase", "decode", "-o", "s.json"}).exit_code, 2);
}

TEST_F(TuneTraceWithModel, OneRankGetsItsBytesButNoPlan) {
  record({}, [](TraceDb& db) {
    db.execute("DELETE FROM collective");
    db.execute("DELETE FROM op WHERE kind = 'collective'");
  });
  EXPECT_THAT(succeeded(tune({"--model", model_, "--tp", "8"})).out,
              HasSubstr("no plan: the step has no collective"));
  EXPECT_TRUE(exists("trace-model.db"));
  EXPECT_FALSE(exists("schedule.json"));
}

// --- real traces
// -------------------------------------------------------------------------------------

struct RealTrace {
  const char* file;    // in a subfolder of PRESERVE_REAL_TRACES
  const char* device;  // a faster one of the same kind will do
  const char* config;  // dimensions as published with the model
  int shapes;          // products with recorded shapes
};

class RealTraces : public testing::TestWithParam<RealTrace> {};

// At least 95 % of the time of products and attention has bytes; shapes agree within 2 %.
TEST_P(RealTraces, KernelsGetTheBytesOfTheirModel) {
  const char* folder = std::getenv("PRESERVE_REAL_TRACES");
  if (folder == nullptr) GTEST_SKIP() << "PRESERVE_REAL_TRACES names no folder with traces";
  fs::path found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().filename() == GetParam().file) found = entry.path();
  }
  if (found.empty()) GTEST_SKIP() << GetParam().file << " is not in " << folder;
  const TemporaryDirectory directory;
  OutputFile(directory / "config.json", false).write(GetParam().config);
  succeeded(test::run_program(
      {PRESERVE_BIN_DIR "/preserve-profile", "--import", found.string(), "-o", "trace.db"}, {},
      directory.path()));
  const test::Run run =
      succeeded(test::run_program({kTune, "trace.db", "--model", "config.json", "--device",
                                   test::device_file(GetParam().device)},
                                  {}, directory.path()));
  std::smatch share;
  ASSERT_TRUE(std::regex_search(run.out, share, std::regex("bytes known for ([0-9.]+) %")))
      << run.out;
  EXPECT_GE(std::stod(share[1]), 95) << run.out;
  if (GetParam().shapes > 0) {
    EXPECT_THAT(run.out, HasSubstr(fmt::format("{0} of {0} products", GetParam().shapes)));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Files, RealTraces,
    testing::Values(
        RealTrace{"b300_sglang_qwen3_30b_a3b_decode_bs16.json.gz", "b200",
                  R"({"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144,
                      "moe_intermediate_size": 768, "num_hidden_layers": 48,
                      "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
                      "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1,
                      "mlp_only_layers": [], "vocab_size": 151936,
                      "max_position_embeddings": 40960, "tie_word_embeddings": false,
                      "use_sliding_window": false})",
                  0},
        RealTrace{"h100_qwen1.5_0.5b.json.gz", "h100-sxm",
                  R"({"model_type": "qwen2", "hidden_size": 1024, "intermediate_size": 2816,
                      "num_hidden_layers": 24, "num_attention_heads": 16,
                      "num_key_value_heads": 16, "vocab_size": 151936,
                      "max_position_embeddings": 32768, "tie_word_embeddings": true,
                      "use_sliding_window": false})",
                  168}));

}  // namespace
}  // namespace preserve
