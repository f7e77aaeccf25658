// SPDX-License-Identifier: Apache-2.0
// preserve-profile --import, --summary and --export as a user runs them, and what the other tools
// make of an imported trace.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "common/output_file.h"
#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve::test {
namespace {

using testing::HasSubstr;

constexpr const char* kProfile = PRESERVE_BIN_DIR "/preserve-profile";

// Decode steps of a tensor-parallel rank replayed from a graph: what an engine's trace looks like.
std::string decode_trace(int rank, int world_size) {
  std::string text = fmt::format(
      R"({{"deviceProperties": [{{"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85018279936}}],
"distributedInfo": {{"rank": {}, "world_size": {}}}, "traceEvents": [
{{"ph": "M", "name": "process_name", "pid": 7, "tid": 0, "ts": 0, "args": {{"name": "python3"}}}})",
      rank, world_size);
  double now = 1000;
  for (int step = 1; step <= 6; ++step) {
    text += fmt::format(
        R"(,
{{"ph": "X", "cat": "user_annotation", "name": "step[DECODE bs=16]", "pid": 7, "tid": 7, "ts": {0}, "dur": 50}},
{{"ph": "X", "cat": "cuda_runtime", "name": "cudaGraphLaunch", "pid": 7, "tid": 7, "ts": {1}, "dur": 5, "args": {{"correlation": {2}}}}})",
        now, now + 5, step);
    now += 60;
    for (int layer = 0; layer < 8; ++layer) {
      for (const auto& [name, us] :
           std::vector<std::pair<const char*, int>>{{"rmsnorm_kernel", 3},
                                                    {"nvjet_qkv", 14},
                                                    {"fmha_decode", 9},
                                                    {"nvjet_o", 10},
                                                    {"multimem_all_reduce_kernel", 20},
                                                    {"nvjet_gate_up", 30},
                                                    {"nvjet_down", 18},
                                                    {"multimem_all_reduce_kernel", 20}}) {
        text += fmt::format(
            R"(,
{{"ph": "X", "cat": "kernel", "name": "{}", "pid": 0, "tid": 7, "ts": {}, "dur": {}, "args": {{"device": 0, "stream": 7, "correlation": {}}}}})",
            name, now, us, step);
        now += us + 1;
      }
    }
  }
  return text + "\n]}\n";
}

class CliImport : public testing::Test {
 protected:
  std::string file(const char* name, const std::string& text) {
    std::ofstream(directory_ / name, std::ios::binary) << text;
    return (directory_ / name).string();
  }
  std::string path(const char* name) { return (directory_ / name).string(); }
  test::Run profile(const Words& arguments) {
    return run_program(words(kProfile, arguments), {}, directory_.path());
  }
  // A file of one rank.
  std::string one_rank(const char* name = "t.json") { return file(name, decode_trace(0, 1)); }
  // Its trace.db.
  std::string imported(const std::string& source) {
    succeeded(profile({"--import", source, "-o", path("trace.db")}));
    return path("trace.db");
  }
  TemporaryDirectory directory_;
};

TEST_F(CliImport, ATraceBecomesAPlan) {
  const test::Run run =
      succeeded(profile({"--import", one_rank("rank0.json"), "-o", path("trace.db")}));
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, HasSubstr("6 annotated, 0 counted, 0 guessed; 6 decode"));
  EXPECT_THAT(run.err, HasSubstr(" && preserve-tune"));
  EXPECT_THAT(run_program({PRESERVE_BIN_DIR "/preserve-tune", path("trace.db"), "--device",
                           PRESERVE_SOURCE_DIR "/examples/devices/h100-sxm.json", "-o",
                           path("schedule.json")}),
              exits(0, HasSubstr("inferred")));
  EXPECT_THAT(profile({"--export", "chrome", path("trace.db"), "--schedule", path("schedule.json"),
                       "-o", path("view.json.gz")}),
              exits(0, testing::Not(HasSubstr(" 0 planned prefetches"))));
  // The same operators: only the digest tells that the plan is another trace's.
  std::string other = decode_trace(0, 1);
  other.replace(other.find("NVIDIA H100 80GB"), 11, "NVIDIA H200");
  succeeded(profile({"--import", file("other.json", other), "-o", path("other.db")}));
  EXPECT_THAT(profile({"--export", "chrome", path("other.db"), "--schedule", path("schedule.json"),
                       "-o", path("other.json.gz")}),
              exits(2, HasSubstr("was made from another trace")));
  EXPECT_FALSE(std::filesystem::exists(path("other.json.gz")));
}

TEST_F(CliImport, AModelSaysWhatItsKernelsRead) {
  const auto config = [&](int layers) {
    return file(
        "config.json",
        fmt::format(R"({{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
                    "num_hidden_layers": {}, "num_attention_heads": 32, "num_key_value_heads": 8,
                    "vocab_size": 128256}})",
                    layers));
  };
  const std::string source = one_rank("rank0.json");
  const auto with = [&](const std::string& model, const Words& options) {
    return profile(
        words("--import", source, "--model", model, "--tp", "2", "-o", path("trace.db"), options));
  };
  EXPECT_THAT(with(config(8), {}).err, HasSubstr("--model needs --device"));
  EXPECT_THAT(with(config(9), {"--device", "h100-sxm"}),
              exits(2, HasSubstr(path("trace.db") + ": the step of rank 0 is not one of")));
  EXPECT_THAT(names_in(directory_.path()), testing::SizeIs(2)) << "only the inputs";
  EXPECT_THAT(with(config(8), {"--device", "h100-sxm"}),
              exits(0, HasSubstr("bytes known for 100.0 % of the time of products and attention")));
  EXPECT_THAT(profile({"--summary", path("trace.db")}).out, HasSubstr("Nothing was lost."));
}

TEST_F(CliImport, SummaryGoesToStandardOutput) {
  const test::Run summary = succeeded(profile({"--summary", imported(one_rank())}));
  EXPECT_THAT(summary.out, HasSubstr("Nothing was lost."));
  EXPECT_THAT(summary.out, HasSubstr("allreduce"));
  EXPECT_THAT(summary.out, HasSubstr("RANK 0 of 1, python3"));
}

TEST_F(CliImport, SeveralRanksAreOneTraceWithTheirResidual) {
  EXPECT_THAT(
      profile({"--import", file("a.json", decode_trace(0, 2)), file("b.json", decode_trace(1, 2)),
               "-o", path("trace.db")}),
      exits(0, HasSubstr("rank 1: clock shifted by 0 ns, ends of 96 collectives agree within")));
}

TEST_F(CliImport, BadInputLeavesNothingBehind) {
  const std::string whole = decode_trace(0, 1);
  const std::string cut = file("cut.json", whole.substr(0, whole.size() / 2));
  EXPECT_THAT(profile({"--import", cut, "-o", path("trace.db")}),
              exits(2, HasSubstr("cut.json: stops in the middle")));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "trace.db"));
  const test::Run partial =
      succeeded(profile({"--import", cut, "--partial", "-o", path("trace.db")}));
  EXPECT_THAT(partial.err, HasSubstr("1 unreadable_rest"));
  EXPECT_EQ(profile({"--import", cut, "--partial", "-o", path("trace.db")}).exit_code, 2)
      << "overwrote without -f";
}

TEST_F(CliImport, ModesDoNotMix) {
  const std::string source = one_rank();
  for (const Words& arguments :
       std::vector<Words>{{"--import", source, "--summary", "x.db"},
                          {"--partial", "--summary", "x.db"},
                          {"--schedule", "s.json", "--summary", "x.db"},
                          {"--export", "otf2", "x.db"},
                          {"--summary", "absent.db"},
                          {"--import", "absent.json"},
                          {"--import", source, "--kernel-rules", "absent.txt"},
                          {"--import", source, "-o", "-"}}) {
    EXPECT_THAT(profile(arguments), exits(2, HasSubstr("error:")))
        << fmt::format("{}", fmt::join(arguments, " "));
  }
  EXPECT_THAT(profile({"--summary", "x.db", "-o", "y"}).err, HasSubstr("-o"));
  EXPECT_THAT(profile({"--summary", "x.db", "--step-range", "s"}).err, HasSubstr("--step-range"));
}

TEST_F(CliImport, ASummaryThatCannotBeWrittenIsAnError) {
  EXPECT_THAT(run_program({"sh", "-c", "exec \"$0\" --summary \"$1\" >/dev/full", kProfile,
                           imported(one_rank())}),
              exits(2, HasSubstr("cannot write to standard output")));
}

TEST_F(CliImport, AnInputIsNeverTheOutput) {
  const std::string source = one_rank(), trace = imported(source);
  const std::string rules = file("rules.txt", "mine compute\n");
  for (const Words& arguments :
       std::vector<Words>{{"--import", source, "-o", source},
                          {"--import", source, "--kernel-rules", rules, "-o", rules},
                          {"--export", "chrome", trace, "-o", trace},
                          {"--merge", trace, "-o", trace}}) {
    const std::string before = read_text_file(arguments.back());
    EXPECT_THAT(profile(words("-f", arguments)), exits(2, HasSubstr("is an input")))
        << fmt::format("{}", fmt::join(arguments, " "));
    EXPECT_EQ(read_text_file(arguments.back()), before);
  }
}

TEST_F(CliImport, UsersRulesDecide) {
  const std::string rules = file("rules", "nvjet_gate_up collective allgather\n");
  succeeded(run_program(
      {kProfile, "--import", one_rank(), "--kernel-rules", rules, "-o", path("trace.db")}));
  EXPECT_THAT(profile({"--summary", path("trace.db")}).out, HasSubstr("allgather"));
}

// The limit may be that of a batch system; the signal that comes with it would end the tool.
TEST_F(CliImport, AnOutputBeyondTheLimitOfFileSizesIsRefusedInWords) {
  const std::string trace = one_rank("rank0.json"), out = path("trace.db");
  const std::string limited = "ulimit -f 16; exec \"$@\"";
  EXPECT_THAT(run_program({"sh", "-c", limited, "sh", kProfile, "--import", trace, "-o", out}),
              exits(2, HasSubstr("error: ")));
  EXPECT_FALSE(std::filesystem::exists(out));
  imported(trace);
  const test::Run exported = run_program(
      {"sh", "-c", limited, "sh", kProfile, "--export", "chrome", out, "-o", path("e.json")});
  EXPECT_EQ(exported.exit_code, 2) << exported.err;
}

}  // namespace
}  // namespace preserve::test
