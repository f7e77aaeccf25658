// SPDX-License-Identifier: Apache-2.0
// preserve-explore as a user runs it: figures, formats, resuming, ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/output_file.h"
#include "db/trace_db.h"
#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::string kExplore = PRESERVE_BIN_DIR "/preserve-explore";

class Explore : public testing::Test {
 protected:
  test::Run explore(const test::Words& options, const test::Words& launcher = {}) {
    return test::run_program(test::words(launcher, kExplore, options), {}, directory_.path());
  }
  std::string text(const char* name) { return read_text_file(directory_ / name); }

  test::TemporaryDirectory directory_;
  const std::vector<std::string> small_{
      "--model", "llama3-8b,qwen2-7b", "--device", "h100-sxm", "--sweep", "batch=1,8", "--sweep",
      "tp=2,4",  "--context",          "4K",       "--dtype",  "fp8"};
  test::Words small(const test::Words& more) const { return test::words(small_, more); }
};

TEST_F(Explore, WritesAllFormatsOfASweep) {
  EXPECT_THAT(explore(small({"-o", "e.db", "-o", "e.csv", "-o", "e.json"})),
              test::exits(0, HasSubstr("8 cells: 8 done")));
  const std::string csv = text("e.csv");
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 9);
  const json document = json::parse(text("e.json"));
  EXPECT_EQ(document["schema"], "preserve/explore");
  ASSERT_EQ(document["cells"].size(), 8U);
  const json& cell = document["cells"][0];
  EXPECT_GT(cell["speedup_flow"], 1.0);
  EXPECT_DOUBLE_EQ(cell["speedup_flow"],
                   cell["baseline_step_ns"].get<double>() / cell["flow_step_ns"].get<double>());
  const test::Run again = succeeded(explore(small({"-o", "e.db", "-o", "again.csv"})));
  EXPECT_THAT(again.err, HasSubstr("resuming e.db: 8 of 8 cells"));
  EXPECT_EQ(text("again.csv"), csv);
}

TEST_F(Explore, GivesTheSameOnOneTwoAndThreeRanksAlsoWhenResumed) {
  const auto ranks = [](const char* count) {
    return std::vector<std::string>{"mpirun", "--oversubscribe", "--allow-run-as-root", "-n",
                                    count};
  };
  const test::Run one = succeeded(explore(small({"-o", "one.csv", "-j", "1"})));
  const test::Run two =
      succeeded(explore(small({"-o", "two.csv", "-o", "some.db", "-j", "1"}), ranks("2")));
  EXPECT_EQ(text("one.csv"), text("two.csv"));
  EXPECT_EQ(two.out, "");
  {
    TraceDb db = TraceDb::append(directory_ / "some.db");
    db.transaction([&] {
      db.execute("DELETE FROM explore_cell WHERE id IN (1, 4, 5, 8)");
      db.set_meta("incomplete", "1");
    });
  }
  EXPECT_THAT(explore(small({"-o", "three.csv", "-o", "some.db"}), ranks("3")),
              test::exits(0, HasSubstr("4 of 8 cells are there")));
  EXPECT_EQ(text("one.csv"), text("three.csv"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "some.db-wal"));
}

TEST_F(Explore, PrintsTheFootprints) {
  const test::Run run = succeeded(explore({"--figure", "footprint", "--model", "llama3-8b"}));
  EXPECT_THAT(run.out, HasSubstr("41.9  268.4      310.4  176.2"));
  EXPECT_THAT(run.out, HasSubstr("ascend-910b: 192.0 MB"));
}

TEST_F(Explore, RefusesBeforeAnyWork) {
  const std::string recurrent = (directory_ / "recurrent.json").string();
  std::ofstream(recurrent)
      << R"({"model_type":"mamba","hidden_size":64,"num_hidden_layers":2,"state_size":16,)"
      << R"("conv_kernel":4,"vocab_size":100})";
  for (const auto& [options, message] : std::vector<std::pair<test::Words, const char*>>{
           {{"--sweep", "l3=1MiB"}, "unknown key l3"},
           {small({"--sweep", "tp=4"}), "tp= is given twice"},
           {{"--model", recurrent, "--device", "h100-sxm", "--tp", "2", "--sweep", "context=1K,2K"},
            "recurrent has no attention"},
           {{"--model", "llama3-8b", "--device", "l40s", "--collectives", "nccl", "--sweep",
             "allreduce=9us"},
            "--collectives changes nothing"},
           {small({"-o", "e.txt"}), ".db, .csv or .json"},
           {{"--model", "no-such", "--device", "h100-sxm"}, "no such file"},
           {{"--figure", "desing"}, "did you mean design"},
           {{"--model", "qwen2-7b", "--device", "h100-sxm", "--tp", "8", "-o", "e.db"},
            "these do: 1, 2, 4"},
           {{"--model", "llama3-70b", "--device", "h100-sxm", "--tp", "1", "-o", "e.db"},
            "no cell can be run"}}) {
    EXPECT_THAT(explore(options), test::exits(2, HasSubstr(message))) << message;
    EXPECT_FALSE(std::filesystem::exists(directory_ / "e.db"));
  }
}

}  // namespace
}  // namespace preserve
