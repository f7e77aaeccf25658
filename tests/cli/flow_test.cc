// SPDX-License-Identifier: Apache-2.0
// The whole flow by its real binaries on a small real program: what a newcomer does first, and the
// properties that must hold over the files together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/output_file.h"
#include "db/trace_db.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using nlohmann::json;
using Finished = test::Run;
using test::TemporaryDirectory;
using testing::HasSubstr;

const std::string kBin = PRESERVE_BIN_DIR;
// Open MPI leaks at exit, from plug-ins that are unloaded by then, so no suppression can name them.
// Leaks of our own code are looked for in the tests that do not start MPI. The collector is
// preloaded into programs, so in sanitized builds its run-time library is not the first one there.
const std::vector<std::string> kMpi{"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                                    "ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0"};

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
    directory_ = new TemporaryDirectory;
    std::ofstream(path("tiny.json")) << kTinyConfig;
    profiled_ = new Finished(
        run({"preserve-profile", "-o", path("trace.db"), "--", "mpirun", "--oversubscribe", "-n",
             "2", kBin + "/tp_decoder", "--config", path("tiny.json"), "--tokens", "24"}));
    calibrated_ = new Finished(
        run({"preserve-calibrate", "--quick", "--ranks", "2", "-o", path("device.json")}));
  }
  static void TearDownTestSuite() {
    delete profiled_;
    delete calibrated_;
    delete directory_;
  }

  static std::string path(const char* name) { return (*directory_ / name).string(); }
  static Finished run(std::vector<std::string> argv) {
    if (argv[0].rfind("preserve-", 0) == 0) argv[0] = kBin + "/" + argv[0];
    return test::run_program(argv, kMpi, directory_->path());
  }
  static void tune_replay_report(const std::string& link, const std::string& suffix) {
    const std::string schedule = path(("schedule" + suffix + ".json").c_str());
    // Forced: the machine of a test may be busy.
    std::vector<std::string> tune{"preserve-tune",     "--force", path("trace.db"), "--device",
                                  path("device.json"), "-o",      schedule};
    if (!link.empty()) tune.insert(tune.end(), {"--link", link});
    const Finished tuned = run(tune);
    ASSERT_EQ(tuned.exit_code, 0) << tuned.err;
    const Finished replayed =
        run({"preserve-replay", path("trace.db"), schedule, "-o",
             path(("replay" + suffix + ".db").c_str()), "--time-limit", "1s", "--oversubscribe"});
    ASSERT_EQ(replayed.exit_code, 0) << replayed.err;
    EXPECT_THAT(replayed.out, testing::ContainsRegex("FAST|SAME|SLOW|AMBG"));
    const std::string report = path(("report" + suffix + ".json").c_str());
    const Finished reported = run({"preserve-report", path("trace.db"), schedule,
                                   path(("replay" + suffix + ".db").c_str()), "-o", report, "-o",
                                   path(("report" + suffix + ".html").c_str())});
    ASSERT_EQ(reported.exit_code, 0) << reported.err;
    EXPECT_EQ(json::parse(read_text_file(report)).at("schema"), "preserve/report");
  }

  static TemporaryDirectory* directory_;
  static Finished* profiled_;
  static Finished* calibrated_;
};
TemporaryDirectory* Flow::directory_ = nullptr;
Finished* Flow::profiled_ = nullptr;
Finished* Flow::calibrated_ = nullptr;

TEST_F(Flow, ProfilingChangesNeitherResultNorExitCode) {
  ASSERT_EQ(profiled_->exit_code, 0) << profiled_->err;
  const Finished plain = run({"mpirun", "--oversubscribe", "-n", "2", kBin + "/tp_decoder",
                              "--config", path("tiny.json"), "--tokens", "24"});
  ASSERT_EQ(plain.exit_code, 0) << plain.err;
  EXPECT_EQ(checksum_of(profiled_->out), checksum_of(plain.out));
}

TEST_F(Flow, TheTraceHoldsEveryRankStepAndTensor) {
  ASSERT_EQ(profiled_->exit_code, 0) << profiled_->err;
  const TraceDb db = TraceDb::open(path("trace.db"));
  EXPECT_EQ(db.query_integer("SELECT COUNT(*) FROM process WHERE complete = 1 AND rank IN (0, 1)"),
            2);
  EXPECT_GE(db.query_integer("SELECT MIN(n) FROM (SELECT COUNT(*) AS n FROM step "
                             "WHERE phase = 'decode' GROUP BY process_id)"),
            20);
  // Two per layer, one for the embedding and one for the sampled token.
  EXPECT_EQ(db.query_integer("SELECT COUNT(*) FROM collective_named WHERE function = 'allreduce' "
                             "AND rank = 0 AND step_id = (SELECT MAX(id) FROM step "
                             "WHERE process_id = (SELECT id FROM process WHERE rank = 0) "
                             "AND phase = 'decode')"),
            2 * 3 + 2);
  // gate_up: 2 * 688 rows of 256 floats over two ranks.
  EXPECT_EQ(db.query_integer("SELECT DISTINCT bytes FROM access_named "
                             "WHERE tensor = 'layers.1.mlp.gate_up.weight'"),
            2 * 688 * 256 * 4 / 2);
  EXPECT_EQ(db.query_integer("SELECT COUNT(*) FROM loss_nonzero WHERE kind = 'dropped'"), 0);
  EXPECT_EQ(db.query_integer("SELECT COUNT(*) FROM stream_coverage "
                             "WHERE wall_ns <> attributed_ns + idle_ns OR idle_ns < 0"),
            0);
}

TEST_F(Flow, CollectivesAsTheyAre) {
  ASSERT_EQ(profiled_->exit_code, 0) << profiled_->err;
  ASSERT_EQ(calibrated_->exit_code, 0) << calibrated_->err;
  tune_replay_report("", "");
}

TEST_F(Flow, AStandInLinkIsPlannedKeptAndLabelled) {
  ASSERT_EQ(profiled_->exit_code, 0) << profiled_->err;
  ASSERT_EQ(calibrated_->exit_code, 0) << calibrated_->err;
  tune_replay_report("200us", "-link");
  if (HasFatalFailure()) return;
  const json schedule = json::parse(read_text_file(path("schedule-link.json")));
  EXPECT_EQ(schedule.at("link_latency_ns"), 200'000);
  const Finished mismatch = run({"preserve-replay", path("trace.db"), path("schedule-link.json"),
                                 "-o", path("no.db"), "--link", "100us"});
  EXPECT_EQ(mismatch.exit_code, 2);
  EXPECT_THAT(mismatch.err, testing::AllOf(HasSubstr("100"), HasSubstr("200")));
  EXPECT_FALSE(std::filesystem::exists(path("no.db")));
  EXPECT_THAT(read_text_file(path("report-link.html")), HasSubstr("stand-in"));
}

TEST_F(Flow, AScheduleOfAnotherTraceIsRefused) {
  ASSERT_EQ(calibrated_->exit_code, 0) << calibrated_->err;
  test::write_synthetic_trace(path("other.db"));
  const Finished tuned = run({"preserve-tune", path("other.db"), "--device", path("device.json"),
                              "-o", path("other.json")});
  ASSERT_EQ(tuned.exit_code, 0) << tuned.err;
  const Finished refused =
      run({"preserve-replay", path("trace.db"), path("other.json"), "-o", path("refused.db")});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("other.json"));
  EXPECT_FALSE(std::filesystem::exists(path("refused.db")));
}

}  // namespace
}  // namespace preserve
