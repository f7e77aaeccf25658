// SPDX-License-Identifier: Apache-2.0
// preserve-tune --model, black box: with no recording, and with the trace that it writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/output_file.h"
#include "tests/support/commands.h"
#include "tests/support/examples.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

using nlohmann::json;

using testing::HasSubstr;

const std::string kH100 = test::device_file("h100-sxm");

class TuneModel : public testing::Test {
 protected:
  test::Run tune(const test::Words& options) {
    return test::run_program(test::words(PRESERVE_BIN_DIR "/preserve-tune", options), {},
                             directory_.path());
  }
  test::Run tune_model(const std::string& model, const test::Words& options) {
    return tune(test::words(options, "--model", test::model_file(model), "--device", kH100));
  }

  json schedule(const char* name) { return json::parse(read_text_file(directory_ / name)); }

  test::TemporaryDirectory directory_;
};

TEST_F(TuneModel, PlansWithoutARecording) {
  succeeded(
      tune_model("llama3-8b", {"--tp", "4", "--batch", "4", "--dtype", "int8", "-o", "s.json"}));
  const json plan = schedule("s.json");
  EXPECT_EQ(plan["trace"]["sha256"], "") << "there is no trace to recognise";
  EXPECT_EQ(plan["trace"]["ranks"], 4);
  EXPECT_EQ(plan["verdict"], "prefetch");
}

// Its operators take as long as the device file says.
TEST_F(TuneModel, TheMemoryIsTheCalibratedOneWhereNothingWasRecorded) {
  json device = json::parse(read_text_file(kH100));
  device["memory_bandwidth_low_bytes_per_s"] = 1;
  std::ofstream(directory_ / "device.json") << device;
  const auto plan = [&](const std::string& file) -> json {
    const test::Run run = succeeded(tune({"--model", test::model_file("llama3-8b"), "--tp", "4",
                                          "--device", file, "-f", "-o", "s.json"}));
    EXPECT_THAT(run.err, testing::Not(HasSubstr("planned with memory at")));
    return schedule("s.json")["predicted"]["prefetch_step_ns"];
  };
  EXPECT_EQ(plan("device.json"), plan(kH100));
}

TEST_F(TuneModel, TheWrittenTraceGivesTheSamePlan) {
  const test::Run model = succeeded(tune_model(
      "qwen2-7b", {"--tp", "4", "--context", "8192", "--trace-out", "t.db", "-o", "model.json"}));
  const test::Run trace = succeeded(tune({"t.db", "--device", kH100, "-o", "trace.json"}));
  json from_model = schedule("model.json"), from_trace = schedule("trace.json");
  EXPECT_EQ(from_model["trace"], from_trace["trace"]);
  from_model.erase("warnings");  // doubts of the generator are not in the trace
  from_trace.erase("warnings");
  EXPECT_EQ(from_model, from_trace);
}

TEST_F(TuneModel, OneRankGivesTheStepWithoutAPlan) {
  const test::Run run = succeeded(tune_model("llama3-8b", {"--tp", "1", "-o", "s.json"}));
  EXPECT_THAT(run.out, HasSubstr("8030261248 parameters"));
  EXPECT_THAT(run.out, HasSubstr("131072 bytes of KV per token"));
  EXPECT_THAT(run.out, HasSubstr("no plan: one rank"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "s.json"));
}

TEST_F(TuneModel, PrintsTheStepAsATable) {
  const auto table = [&](const char* format) {
    return tune_model("llama3-8b",
                      {"--tp", "2", "--print", "step", "--format", format, "-o", "s.json"});
  };
  const test::Run csv = succeeded(table("csv"));
  EXPECT_THAT(csv.out,
              testing::StartsWith("ordinal,operator,class,bytes,m,n,k,dtype,dur_ns,time_source\n"));
  EXPECT_THAT(csv.out, HasSubstr("layers.31.mlp.down,product,58720256,1,4096,7168,fp16,"));
  const test::Run text = succeeded(table("json"));
  const json document = json::parse(text.out);
  double sum_ns = 0;
  for (const json& row : document["operators"]) sum_ns += row["dur_ns"].get<double>();
  EXPECT_EQ(document["step_ns"], sum_ns);
  EXPECT_EQ(document["operators"][5]["class"], "attention");
  EXPECT_EQ(document["operators"][5]["time_source"], "table");
  EXPECT_FALSE(std::filesystem::exists(directory_ / "s.json"));
}

TEST_F(TuneModel, WhatCannotBePlannedIsRefusedByItsExitCodeAndWritesNothing) {
  const auto refused = [&](const test::Run& run, const char* text, int exit_code = 2) {
    EXPECT_THAT(run, test::exits(exit_code, HasSubstr(text)));
    EXPECT_FALSE(std::filesystem::exists(directory_ / "s.json"));
    EXPECT_FALSE(std::filesystem::exists(directory_ / "t.db"));
  };
  refused(tune_model("llama3-8b", {"--tp", "3", "-o", "s.json", "--trace-out", "t.db"}),
          "3 ranks do not divide", 4);
  refused(tune_model("llama3-70b",
                     {"--tp", "2", "--context", "131072", "--batch", "64", "-o", "s.json"}),
          "per rank", 4);
  refused(tune_model("llama3-8b", {"--tp", "2", "--dtype", "fp4", "-o", "s.json"}),
          "no fp4 arithmetic rate");
  refused(tune_model("llama3-8b", {"--tp", "2", "--context", "5,", "-o", "s.json"}), "--context");
  refused(tune_model("llama3-8b", {"--tp", "1", "--measure", "-o", "s.json"}), "--measure");
  refused(tune_model("llama3-8b", {"--tp", "99999999999999999999", "-o", "s.json"}), "--tp");
  refused(tune_model("llama3-8b", {"--tp", "2", "-o", "s.json", "absent.db"}), "absent.db");
  refused(tune({"--tp", "2", "-o", "s.json"}), "--model");
  refused(tune({"--model", "absent.json", "--device", test::device_file("h200"), "-o", "s.json"}),
          "absent.json");
}

}  // namespace
}  // namespace preserve
