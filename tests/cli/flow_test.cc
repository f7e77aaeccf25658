// SPDX-License-Identifier: Apache-2.0
// The whole flow by its real binaries on a small real program: what a newcomer does first, and the
// properties that must hold over the files together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/output_file.h"
#include "db/trace_db.h"
#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"
#include "tests/support/rows.h"

namespace preserve {
namespace {

using nlohmann::json;
using test::TemporaryDirectory;
using testing::HasSubstr;

const std::string kBin = PRESERVE_BIN_DIR;

// A model of a few MB: big enough to leave the L2, small enough for any machine.
constexpr const char* kTinyConfig =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
 "hidden_act": "silu", "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 3,
 "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 2048, "rms_norm_eps": 1e-05,
 "rope_theta": 10000.0, "max_position_embeddings": 256, "tie_word_embeddings": false})";

std::string checksum_of(const std::string& text) {
  const size_t at = text.find("checksum:");
  EXPECT_NE(at, std::string::npos) << text;
  return text.substr(at, text.find('\n', at) - at);
}

class Flow : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = std::make_unique<TemporaryDirectory>();
    std::ofstream(path("tiny.json")) << kTinyConfig;
    profiled_ = run(test::words("preserve-profile", "-o", path("trace.db"), "--", decoder()));
    calibrated_ = run({"preserve-calibrate", "--quick", "--ranks", "2", "-o", path("device.json")});
  }
  static void TearDownTestSuite() { directory_.reset(); }

  static std::string path(const std::string& name) { return (directory_->path() / name).string(); }
  static test::Run run(std::vector<std::string> argv) {
    if (argv[0].starts_with("preserve-")) argv[0] = kBin + "/" + argv[0];
    return test::run_program(argv, test::kMpi, directory_->path());
  }
  static test::Words decoder() {
    return test::mpirun(2, {kBin + "/tp_decoder", "--config", path("tiny.json"), "--tokens", "24"});
  }
  static void tune_replay_report(const std::string& link, const std::string& suffix) {
    const std::string schedule = path("schedule" + suffix + ".json"),
                      replay = path("replay" + suffix + ".db"), report = path("report" + suffix);
    // Forced: the machine of a test may be busy.
    succeeded(run(test::words("preserve-tune", "--force", path("trace.db"), "--device",
                              path("device.json"), "-o", schedule,
                              link.empty() ? test::Words{} : test::Words{"--link", link})));
    EXPECT_THAT(succeeded(run({"preserve-replay", path("trace.db"), schedule, "-o", replay,
                               "--time-limit", "1s", "--oversubscribe"}))
                    .out,
                testing::ContainsRegex("FAST|SAME|SLOW|AMBG"));
    succeeded(run({"preserve-report", path("trace.db"), schedule, replay, "-o", report + ".json",
                   "-o", report + ".html"}));
    EXPECT_EQ(json::parse(read_text_file(report + ".json")).at("schema"), "preserve/report");
  }

  static inline std::unique_ptr<TemporaryDirectory> directory_;
  static inline test::Run profiled_, calibrated_;
};

TEST_F(Flow, ProfilingChangesNeitherResultNorExitCode) {
  ASSERT_EQ(profiled_.exit_code, 0) << profiled_.err;
  const test::Run plain = succeeded(run(decoder()));
  EXPECT_EQ(checksum_of(profiled_.out), checksum_of(plain.out));
}

TEST_F(Flow, TheTraceHoldsEveryRankStepAndTensor) {
  ASSERT_EQ(profiled_.exit_code, 0) << profiled_.err;
  const TraceDb db = TraceDb::open(path("trace.db"));
  EXPECT_EQ(test::count(db, "process WHERE complete = 1 AND rank IN (0, 1)"), 2);
  EXPECT_GE(db.query_integer("SELECT MIN(n) FROM (SELECT COUNT(*) AS n FROM step "
                             "WHERE phase = 'decode' GROUP BY process_id)"),
            20);
  // Two per layer, one for the embedding and one for the sampled token.
  EXPECT_EQ(test::count(db,
                        "collective_named WHERE function = 'allreduce' AND rank = 0 AND step_id = "
                        "(SELECT MAX(id) FROM step WHERE process_id = (SELECT id FROM process "
                        "WHERE rank = 0) AND phase = 'decode')"),
            2 * 3 + 2);
  // gate_up: 2 * 688 rows of 256 floats over two ranks.
  EXPECT_EQ(db.query_integer("SELECT DISTINCT bytes FROM access_named "
                             "WHERE tensor = 'layers.1.mlp.gate_up.weight'"),
            2 * 688 * 256 * 4 / 2);
  EXPECT_EQ(test::count(db, "loss_nonzero WHERE kind = 'dropped'"), 0);
  EXPECT_EQ(
      test::count(db, "stream_coverage WHERE wall_ns <> attributed_ns + idle_ns OR idle_ns < 0"),
      0);
}

TEST_F(Flow, CollectivesAsTheyAre) {
  ASSERT_EQ(profiled_.exit_code, 0) << profiled_.err;
  ASSERT_EQ(calibrated_.exit_code, 0) << calibrated_.err;
  tune_replay_report("", "");
}

TEST_F(Flow, AStandInLinkIsPlannedKeptAndLabelled) {
  ASSERT_EQ(profiled_.exit_code, 0) << profiled_.err;
  ASSERT_EQ(calibrated_.exit_code, 0) << calibrated_.err;
  tune_replay_report("200us", "-link");
  if (HasFatalFailure()) return;
  const json schedule = json::parse(read_text_file(path("schedule-link.json")));
  EXPECT_EQ(schedule.at("link_latency_ns"), 200'000);
  EXPECT_THAT(run({"preserve-replay", path("trace.db"), path("schedule-link.json"), "-o",
                   path("no.db"), "--link", "100us"}),
              test::exits(2, testing::AllOf(HasSubstr("100"), HasSubstr("200"))));
  EXPECT_FALSE(std::filesystem::exists(path("no.db")));
  EXPECT_THAT(read_text_file(path("report-link.html")), HasSubstr("stand-in"));
}

TEST_F(Flow, AScheduleOfAnotherTraceIsRefused) {
  ASSERT_EQ(calibrated_.exit_code, 0) << calibrated_.err;
  test::write_synthetic_trace(path("other.db"));
  succeeded(run({"preserve-tune", path("other.db"), "--device", path("device.json"), "-o",
                 path("other.json")}));
  EXPECT_THAT(
      run({"preserve-replay", path("trace.db"), path("other.json"), "-o", path("refused.db")}),
      test::exits(2, HasSubstr("other.json")));
  EXPECT_FALSE(std::filesystem::exists(path("refused.db")));
}

}  // namespace
}  // namespace preserve
