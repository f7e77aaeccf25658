// SPDX-License-Identifier: Apache-2.0
// preserve-apply by its real binary around real programs: results stay bit for bit, whatever the
// measurement says; what cannot be applied is refused or said.
#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "common/output_file.h"
#include "db/replay_result.h"
#include "planner/schedule/schedule.h"
#include "tests/support/commands.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

using test::mpirun;
using test::Words;
using test::words;
using testing::HasSubstr;

const std::string kBin = PRESERVE_BIN_DIR;

constexpr const char* kTinyConfig =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
 "hidden_act": "silu", "hidden_size": 240, "intermediate_size": 720, "num_hidden_layers": 3,
 "num_attention_heads": 60, "num_key_value_heads": 60, "vocab_size": 1500, "rms_norm_eps": 1e-05,
 "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": false})";

// Prefetching pays on this device whatever the machine of the test is like.
constexpr const char* kDevice = R"({"schema": "preserve/device", "version": "1.1", "name": "box",
 "kind": "cpu", "source": "published: a test", "ranks": 2, "cache_bytes": 1572864,
 "cache_budget_bytes": 1048576, "memory_bytes": 0, "memory_bandwidth_bytes_per_s": 2e9,
 "cache_read_bandwidth_bytes_per_s": 40e9, "slowdown_per_byte_ns": 0, "window_cost_ns": 0,
 "op_floor_ns": 100, "flops_fp16_per_s": 0, "flops_fp8_per_s": 0, "flops_int8_per_s": 0,
 "survival": [], "methods": [{"name": "prefetcht0", "placement": "consumer",
 "bandwidth_bytes_per_s": 8e9, "start_latency_ns": 100, "hit_read_bandwidth_bytes_per_s": 40e9,
 "chunk_bytes": 4096, "ctas": 0}], "collectives": [], "notes": []})";

class Apply : public testing::Test {
 protected:
  Apply() {
    std::ofstream(path("tiny.json")) << kTinyConfig;
    std::ofstream(path("device.json")) << kDevice;
  }

  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }
  test::Run run(Words argv) const {
    if (argv[0].starts_with("preserve-")) argv[0] = kBin + "/" + argv[0];
    return test::run_program(argv, test::kMpi, directory_.path());
  }
  Words decoder(int ranks, const std::string& tokens) const {
    return mpirun(ranks, {kBin + "/tp_decoder", "--config", path("tiny.json"), "--tokens", tokens,
                          "--print-tokens"});
  }
  Words solver(int ranks, const char* size, const char* iterations, const char* result) const {
    return mpirun(ranks, {kBin + "/cg", size, iterations, path(result)});
  }
  // schedule.json of a program, with a link under which there is time to prefetch.
  void plan_for(const Words& command, const Words& options = {}) const {
    succeeded(run(words("preserve-profile", "-f", options, "-o", path("trace.db"), "--", command)));
    const test::Run tuned = succeeded(run({"preserve-tune", "-f", path("trace.db"), "--device",
                                           path("device.json"), "--link", "100us"}));
    choose_the_plan();
    ASSERT_EQ(load_schedule(schedule_).plan.verdict, PlanVerdict::prefetch)
        << tuned.out << tuned.err;
  }
  void plan(int ranks) const { plan_for(decoder(ranks, "24")); }
  test::Run apply(const Words& options, const Words& command) const {
    return run(words("preserve-apply", options, "--", command));
  }
  // Under that plan, whatever it costs.
  test::Run apply_plan(const Words& command, const Words& options = {}) const {
    return succeeded(
        apply(words("-f", "--no-guard", options, "--link", "100us", schedule_), command));
  }
  // Changes schedule.json as text.
  void edit(const std::function<void(Schedule&)>& change) const {
    Schedule schedule = load_schedule(schedule_);
    change(schedule);
    std::ofstream(schedule_) << to_json(schedule);
  }
  // On a busy machine steps are recorded so long that the best plan gains too little to be chosen:
  // it is the first of the candidates then.
  void choose_the_plan() const {
    edit([](Schedule& s) {
      if (s.plan.verdict == PlanVerdict::prefetch || s.candidates.empty()) return;
      s.plan = s.candidates.front();
      s.plan.verdict = PlanVerdict::prefetch;
      s.candidates.erase(s.candidates.begin());
    });
  }

  test::TemporaryDirectory directory_;
  const std::string schedule_ = path("schedule.json");
};

// Without what is measured.
std::string tokens_of(const std::string& text) {
  std::istringstream lines(text);
  std::string all, line;
  while (std::getline(lines, line)) {
    if (line.starts_with("token:") || line.starts_with("checksum:")) all += line + "\n";
  }
  return all;
}

class ApplyOnRanks : public Apply, public testing::WithParamInterface<int> {};

TEST_P(ApplyOnRanks, LeavesTheDecodersResultsBitForBit) {
  ASSERT_NO_FATAL_FAILURE(plan(GetParam()));
  const Words command = decoder(GetParam(), "80");
  const test::Run plain = succeeded(run(command));
  ASSERT_THAT(tokens_of(plain.out), HasSubstr("checksum:"));
  const test::Run applied = apply_plan(command);
  EXPECT_EQ(tokens_of(applied.out), tokens_of(plain.out));
  EXPECT_THAT(applied.err,
              testing::AllOf(HasSubstr("applied"), HasSubstr("predicted"), HasSubstr("fetched")));

  const ReplayResult result = read_result(TraceDb::open(path("apply.db")));
  EXPECT_TRUE(result.applied);
  EXPECT_EQ(result.ranks, GetParam());
  EXPECT_GT(result.arms[1].issued_bytes, 0);
  EXPECT_LE(result.arms[1].issued_bytes, static_cast<double>(result.planned_bytes));
  // Converted where that changes no bit, as it does at some numbers of ranks.
  const test::Run converted = apply_plan(command, {"-o", path("converted.db"), "--via", "convert"});
  EXPECT_EQ(tokens_of(converted.out), tokens_of(plain.out));
  const TraceDb converted_db = TraceDb::open(path("converted.db"));
  EXPECT_EQ(converted_db.meta("via"), "convert");
  if (converted_db.meta("off_reason").empty()) {
    EXPECT_GT(read_result(converted_db).arms[1].issued_bytes, 0) << converted.err;
  } else {
    EXPECT_THAT(converted.err, HasSubstr("give other bits"));
    EXPECT_GT(GetParam(), 2);
  }

  const test::Run report = succeeded(run(
      {"preserve-report", path("trace.db"), schedule_, path("apply.db"), "-o", path("report.md")}));
  EXPECT_THAT(read_text_file(path("report.md")), HasSubstr("in the program itself"));
  EXPECT_THAT(run({"preserve-tune", "-f", path("trace.db"), "--device", path("device.json"),
                   "--link", "100us", "--learn", path("apply.db"), "-o", path("learnt.json")}),
              test::exits(0, HasSubstr("learnt from")));
}

INSTANTIATE_TEST_SUITE_P(Ranks, ApplyOnRanks, testing::Values(2, 3, 4, 5));

TEST_F(Apply, WorksBehindMpirun) {
  ASSERT_NO_FATAL_FAILURE(plan(2));
  const test::Run applied = succeeded(
      run(mpirun(2, {kBin + "/preserve-apply", "--link", "100us", schedule_, "--",
                     kBin + "/tp_decoder", "--config", path("tiny.json"), "--tokens", "80"})));
  EXPECT_EQ(applied.err.find("rank   state"), applied.err.rfind("rank   state"))
      << "one launcher reports for all:\n"
      << applied.err;
  EXPECT_EQ(read_result(TraceDb::open(path("apply.db"))).ranks, 2);
}

TEST_F(Apply, RefusesWhatItCannotApply) {
  ASSERT_NO_FATAL_FAILURE(plan(2));
  const Words command = decoder(2, "8");
  const auto refusal = [&](const Words& options) {
    const test::Run refused = apply(options, command);
    EXPECT_EQ(refused.exit_code, 2) << refused.err;
    EXPECT_EQ(refused.out, "");
    EXPECT_FALSE(std::filesystem::exists(path("apply.db")));
    return refused.err;
  };
  EXPECT_THAT(refusal({schedule_}), HasSubstr("--link 100 us"));
  EXPECT_THAT(refusal({"--link", "5us", schedule_}), HasSubstr("--link asks for 5 us"));
  EXPECT_THAT(refusal({"--link", "100us", path("none.json")}), HasSubstr("none.json"));
  EXPECT_THAT(refusal({"--link", "100us", "-o", "-", schedule_}), HasSubstr("standard output"));
  EXPECT_THAT(refusal({"--link", "100us", "-o", schedule_, schedule_}), HasSubstr("schedule.json"));
  edit([](Schedule& s) { s.plan.method = IssueMethod{"bulk_l2", "consumer", 4096, 8}; });
  EXPECT_THAT(refusal({"--link", "100us", schedule_}), HasSubstr("no kernels of a GPU"));
  EXPECT_THAT(refusal({"--via", "magic", schedule_}), HasSubstr("--via"));
  edit([](Schedule& s) {
    s.plan.method.reset();
    s.signature.clear();
  });
  EXPECT_THAT(refusal({"--link", "100us", schedule_}), HasSubstr("older preserve-tune"));
}

TEST_F(Apply, FetchesOnSpareCoresWhereThereAreSome) {
  ASSERT_NO_FATAL_FAILURE(plan(2));
  edit([](Schedule& s) { s.plan.method = IssueMethod{"prefetcht0", "spare", 4096}; });
  const Words command = decoder(2, "60");
  const test::Run plain = run(command);
  const test::Run applied = apply_plan(command);
  EXPECT_EQ(tokens_of(applied.out), tokens_of(plain.out));
  const TraceDb db = TraceDb::open(path("apply.db"));
  EXPECT_EQ(db.meta("via"), "spare");
  if (std::thread::hardware_concurrency() < 4) {
    EXPECT_THAT(applied.err, HasSubstr("no core is idle"));
  } else if (db.meta("off_reason").empty()) {
    EXPECT_GT(read_result(db).arms[1].issued_bytes, 0) << applied.err;
  }
}

TEST_F(Apply, SaysWhyNothingHappened) {
  ASSERT_NO_FATAL_FAILURE(plan(2));
  EXPECT_THAT(apply({"--link", "100us", schedule_}, decoder(3, "8")),
              test::exits(0, HasSubstr("another number of ranks")));
  const test::Run no_mpi =
      apply({"-f", "--link", "100us", schedule_}, {"sh", "-c", "echo hello; exit 7"});
  EXPECT_EQ(no_mpi.exit_code, 7);
  EXPECT_EQ(no_mpi.out, "hello\n");
  EXPECT_THAT(no_mpi.err, HasSubstr("none called MPI_Init"));
  edit([](Schedule& s) {
    s.link_latency_ns = 0;
    s.candidates.clear();
    s.plan = Plan();
    s.plan.reasons = {"nothing to gain"};
  });
  EXPECT_THAT(
      apply({schedule_}, {"printenv", "PRESERVE_APPLY_PLAN"}),
      test::exits(1, testing::AllOf(HasSubstr("do-nothing"), HasSubstr("nothing to gain"))));
  EXPECT_EQ(apply({schedule_}, {"no-such-command"}).exit_code, 127);
}

// The solver names none of its memory: it is recorded by page protection, and its own plan finds
// its allocations by size and order.
TEST_P(ApplyOnRanks, LeavesASolverItsResultsUnderItsOwnPlan) {
  const auto cg = [&](const char* iterations, const char* result) {
    return solver(GetParam(), "16", iterations, result);
  };
  ASSERT_NO_FATAL_FAILURE(plan_for(cg("40", "recorded.bin"), {"--touch"}));
  ASSERT_EQ(run(cg("40", "plain.bin")).exit_code, 0);
  EXPECT_EQ(read_text_file(path("recorded.bin")), read_text_file(path("plain.bin")));
  ASSERT_EQ(run(cg("80", "plain.bin")).exit_code, 0);
  const test::Run applied = apply_plan(cg("80", "applied.bin"));
  EXPECT_EQ(read_text_file(path("applied.bin")), read_text_file(path("plain.bin")));
  EXPECT_GT(read_result(TraceDb::open(path("apply.db"))).arms[1].issued_bytes, 0) << applied.err;
}

// Whose library has no progress engine that takes callbacks.
TEST_F(Apply, ConvertsTheCollectivesOfMpich) {
  const std::string program = PRESERVE_PROGRAM_DIR "/mpich_sums_program";
  if (!std::filesystem::exists(program)) GTEST_SKIP() << "no mpicxx.mpich";
  const auto sums = [&](const std::string& steps) {
    return Words{"mpiexec.mpich", "-n", "2", program, steps};
  };
  ASSERT_NO_FATAL_FAILURE(plan_for(sums("24"), {"--touch"}));
  const test::Run plain = run(sums("40"));
  ASSERT_THAT(plain.out, HasSubstr("hash: "));
  const test::Run applied = apply_plan(sums("40"));
  EXPECT_EQ(applied.out, plain.out);
  const TraceDb db = TraceDb::open(path("apply.db"));
  EXPECT_EQ(db.meta("via"), "convert") << applied.err;
  EXPECT_GT(read_result(db).arms[1].issued_bytes, 0) << applied.err;
  // Without that way there is none.
  const test::Run refused =
      apply({"-f", "--no-guard", "--via", "progress", "--link", "100us", schedule_}, sums("40"));
  EXPECT_EQ(refused.out, plain.out);
  EXPECT_THAT(refused.err, HasSubstr("no progress engine"));
}

TEST_F(Apply, FindsTheRanksBehindAShell) {
  ASSERT_NO_FATAL_FAILURE(plan(2));
  for (const char* const how : {"exec \"$@\"", "\"$@\"; exit $?"}) {
    const Words ranks = decoder(2, "40");
    const test::Run applied = apply_plan(words(Words(ranks.begin(), ranks.begin() + 4), "sh", "-c",
                                               how, "sh", Words(ranks.begin() + 4, ranks.end())));
    EXPECT_GT(read_result(TraceDb::open(path("apply.db"))).arms[1].issued_bytes, 0) << applied.err;
  }
}

// With the plan of another program, which is never recognised.
TEST_F(Apply, LeavesProgramsTheirSignalsChildrenAndEnds) {
  ASSERT_NO_FATAL_FAILURE(plan(2));
  const std::string program = PRESERVE_PROGRAM_DIR "/touch_program";
  for (const char* const part : {"signals", "release", "peers", "abort", "crash"}) {
    const Words command = mpirun(2, {program, part});
    const test::Run plain = run(command);
    const test::Run applied = apply({"-f", "--link", "100us", schedule_}, command);
    EXPECT_EQ(applied.exit_code, plain.exit_code) << part << ": " << applied.err;
    EXPECT_EQ(applied.out, plain.out) << part;
    EXPECT_THAT(applied.err, HasSubstr("without recognising the step")) << part;
  }
}

TEST_F(Apply, SaysWhichProgramsItCannotReach) {
  ASSERT_NO_FATAL_FAILURE(plan(2));
  const test::Run other =
      succeeded(apply({"--link", "100us", schedule_}, {PRESERVE_PROGRAM_DIR "/mpi_stub_program"}));
  EXPECT_EQ(other.out, "ok\n");
  EXPECT_THAT(other.err, HasSubstr("not Open MPI"));
  // An executable that asks for no loader.
  Elf64_Ehdr head{};
  std::memcpy(head.e_ident, ELFMAG, SELFMAG);
  head.e_ident[EI_CLASS] = ELFCLASS64;
  head.e_phentsize = sizeof(Elf64_Phdr);
  std::ofstream(path("static"), std::ios::binary)
      .write(reinterpret_cast<const char*>(&head), sizeof(head));
  std::filesystem::permissions(path("static"), std::filesystem::perms::owner_all);
  EXPECT_THAT(apply({"-f", "--link", "100us", schedule_}, {path("static")}),
              test::exits(2, HasSubstr("linked statically")));
}

// Another program's plan: whatever it finds in the solver's memory, its results stay.
TEST_F(Apply, LeavesAForeignSolverAlone) {
  ASSERT_NO_FATAL_FAILURE(plan(2));
  succeeded(run(solver(2, "12", "40", "plain.bin")));
  const test::Run applied =
      succeeded(apply({"--link", "100us", schedule_}, solver(2, "12", "40", "applied.bin")));
  EXPECT_THAT(applied.err, HasSubstr("without recognising the step"));
  EXPECT_EQ(read_text_file(path("applied.bin")), read_text_file(path("plain.bin")));
}

}  // namespace
}  // namespace preserve
