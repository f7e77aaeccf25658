// SPDX-License-Identifier: Apache-2.0
// The decoder under preserve-profile: the same text, and a trace that knows every tensor it reads.
#include <gtest/gtest.h>

#include "db/trace_db.h"
#include "tests/examples/decoder_run.h"
#include "tests/support/paths.h"

namespace tp_decoder::test {
namespace {

using preserve::TraceDb;

constexpr int64_t kPrompt = 5, kSteps = 6, kFloat = 4;

class Profiled : public testing::Test {
 protected:
  void SetUp() override {
    const std::vector<std::string> arguments = {"--config", config_,
                                                "--prompt", std::to_string(kPrompt),
                                                "--tokens", std::to_string(kSteps)};
    plain_ = run_decoder(2, arguments);
    profiled_ =
        run_decoder(2, arguments, {}, {PRESERVE_BIN_DIR "/preserve-profile", "-o", trace_, "--"});
    ASSERT_EQ(profiled_.exit_code, 0) << profiled_.err;
  }

  const preserve::test::TemporaryDirectory directory_;
  const std::string config_ = write_config(directory_, tiny_config());
  const std::string trace_ = directory_ / "trace.db";
  preserve::test::Run plain_, profiled_;
};

TEST_F(Profiled, TheTextIsTheSame) {
  EXPECT_EQ(value_of(profiled_, "checksum"), value_of(plain_, "checksum"));
}

TEST_F(Profiled, TheTraceHasEveryStepCollectiveAndByte) {
  const TraceDb trace = TraceDb::open(trace_);
  EXPECT_EQ(trace.query_integer("SELECT count(*) FROM step WHERE phase = 'decode'"), 2 * kSteps);
  EXPECT_EQ(trace.query_integer("SELECT count(*) FROM step WHERE phase = 'prefill'"), 2);
  // Per step and rank: embedding, two per layer, and the choice.
  EXPECT_EQ(trace.query_integer("SELECT count(*) FROM op WHERE kind = 'collective' "
                                "AND step_id IS NOT NULL"),
            2 * (1 + kSteps) * (1 + 2 * 2 + 1));
  // A decode step reads each weight but the embedding table once: half of every split matrix, and
  // the whole of the five norms.
  constexpr int64_t kHidden = 48, kQkv = 160, kQ = 80, kFfn = 70, kVocab = 101;
  constexpr int64_t kSplit = 2 * (kQkv + kQ + 3 * kFfn) * kHidden + kVocab * kHidden;
  EXPECT_EQ(
      trace.query_integer("SELECT sum(a.bytes) FROM access_named a JOIN op ON op.id = a.op_id "
                          "JOIN step ON step.id = op.step_id "
                          "WHERE step.phase = 'decode' AND a.role = 'weight'"),
      kSteps * (kSplit + 2 * 5 * kHidden) * kFloat);
  const auto keys = trace.query_integer(
      "SELECT max(bytes) FROM access_named WHERE tensor = 'layers.1.attn.core.k_cache'");
  constexpr int64_t kTokenBytes = 2 * 10 * kFloat;  // this rank's key-value heads
  EXPECT_EQ(keys, (kPrompt + kSteps) * kTokenBytes);
}

}  // namespace
}  // namespace tp_decoder::test
