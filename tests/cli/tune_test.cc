// SPDX-License-Identifier: Apache-2.0
// preserve-tune from the outside: outputs, streams, exit codes, messages, nothing half-written.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/output_file.h"
#include "planner/schedule/device.h"
#include "planner/schedule/schedule.h"
#include "tests/support/commands.h"
#include "tests/support/devices.h"
#include "tests/support/examples.h"
#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

namespace fs = std::filesystem;
using test::Words;
using test::words;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class PreserveTune : public testing::Test {
 protected:
  PreserveTune() {
    write_trace({});
    DeviceModel device = test::cpu_device();
    device.ranks = 1;
    write_device(device);
  }

  void write_device(const DeviceModel& device) const {
    std::ofstream(directory_ / "device.json") << to_json(device);
  }

  // The ranks wait for a network: on one host, where none comes late, nothing could be fetched.
  void write_trace(test::SyntheticTrace spec, const std::function<void(TraceDb&)>& tweak = {}) {
    spec.allreduce_ns = 60'000;
    test::write_synthetic_trace(directory_ / "trace.db", spec, [&](TraceDb& db) {
      db.execute("UPDATE process SET host = 'host' || rank");
      if (tweak) tweak(db);
    });
  }

  test::Run tune(const Words& arguments) const {
    return test::run_program(words(PRESERVE_BIN_DIR "/preserve-tune", arguments), {},
                             directory_.path());
  }
  test::Run tune_with_device(const Words& arguments) const {
    return tune(words(arguments, "trace.db", "--device", "device.json"));
  }
  // Exit 2, the message, and no output.
  void expect_refused(const test::Run& run, const std::string& message) const {
    EXPECT_THAT(run,
                test::exits(2, AllOf(HasSubstr("preserve-tune: error: "), HasSubstr(message))));
    EXPECT_EQ(run.out, "");
    EXPECT_FALSE(fs::exists(directory_ / "schedule.json"));
  }
  Schedule schedule(const char* name = "schedule.json") const {
    return load_schedule(directory_ / name);
  }

  test::TemporaryDirectory directory_;
};

TEST_F(PreserveTune, WritesAScheduleForTheTrace) {
  const test::Run run = succeeded(tune_with_device({}));
  EXPECT_THAT(run.out, HasSubstr("prefetch: predicted"));
  EXPECT_THAT(run.err, HasSubstr("next: preserve-replay trace.db schedule.json\n"));
  const Schedule planned = schedule();
  EXPECT_EQ(planned.plan.strategy, Strategy::flow);
  EXPECT_EQ(planned.plan.verdict, PlanVerdict::prefetch);
  EXPECT_EQ(planned.trace_sha256, sha256_of_file(directory_ / "trace.db"));
  EXPECT_EQ(planned.ranks, 2);
  EXPECT_EQ(planned.budget_bytes, 4 << 20);
  EXPECT_EQ(planned.method.name, "load");
  EXPECT_EQ(planned.candidates.size(), 2u);
  EXPECT_LT(planned.plan.prefetch_step_ns, planned.plan.baseline_step_ns);
}

TEST_F(PreserveTune, SaysThatMemoryWasSlowerInTheRecording) {
  DeviceModel device = test::cpu_device();
  device.ranks = 1;
  device.memory_bandwidth_bytes_per_s = 1e15;
  device.memory_bandwidth_low_bytes_per_s = 1;
  write_device(device);
  const test::Run run = succeeded(tune_with_device({}));
  EXPECT_THAT(run.err, HasSubstr("planned with memory at "));
  EXPECT_THAT(schedule().warnings,
              testing::Contains(HasSubstr("planned with memory at ")).Times(1));
}

TEST_F(PreserveTune, StandardOutputCarriesOnlyTheSchedule) {
  const test::Run run = succeeded(tune_with_device({"-o", "-"}));
  EXPECT_EQ(nlohmann::json::parse(run.out).at("schema"), "preserve/schedule");
  EXPECT_THAT(run.err, HasSubstr("predicted"));
}

TEST_F(PreserveTune, OneFileForBothStreamsKeepsTheirOrder) {
  const test::Run run = succeeded(test::run_program(
      {"sh", "-c", PRESERVE_BIN_DIR "/preserve-tune trace.db --device device.json 2>&1"}, {},
      directory_.path()));
  EXPECT_LT(run.out.find("predicted"), run.out.find("next: "));
}

TEST_F(PreserveTune, IsDeterministic) {
  ASSERT_EQ(tune_with_device({"-o", "a.json"}).exit_code, 0);
  ASSERT_EQ(tune_with_device({"-o", "b.json"}).exit_code, 0);
  EXPECT_EQ(read_text_file(directory_ / "a.json"), read_text_file(directory_ / "b.json"));
}

TEST_F(PreserveTune, TheOrderOfRowsDoesNotMatter) {
  ASSERT_EQ(tune_with_device({"-o", "a.json"}).exit_code, 0);
  // The same facts with every operator and tensor numbered backwards.
  write_trace({}, [](TraceDb& db) {
    for (const char* statement :
         {"UPDATE collective SET op_id = -op_id", "UPDATE counter SET op_id = -op_id",
          "UPDATE access SET op_id = -op_id, tensor_id = -tensor_id", "UPDATE op SET id = -id",
          "UPDATE tensor SET id = -id"}) {
      db.execute(statement);
    }
  });
  ASSERT_EQ(tune_with_device({"-o", "b.json"}).exit_code, 0);
  Schedule a = schedule("a.json"), b = schedule("b.json");
  EXPECT_NE(a.trace_sha256, b.trace_sha256);
  b.trace_sha256 = a.trace_sha256;
  EXPECT_EQ(to_json(a), to_json(b));
}

TEST_F(PreserveTune, WithoutNamesItSaysWhatTheyCouldGain) {
  write_trace({.name_tensors = false});
  EXPECT_THAT(succeeded(tune_with_device({})).out,
              AllOf(HasSubstr("no operator reads a named tensor"),
                    HasSubstr("collectives  9 per step, together 540.00 us of"),
                    HasSubstr("could be fetched in 9 windows"), HasSubstr("gain         at most"),
                    HasSubstr("docs/annotating.md"), HasSubstr("--touch"), HasSubstr("--torch")));
  EXPECT_FALSE(fs::exists(directory_ / "schedule.json"));
}

TEST_F(PreserveTune, ANoisyRecordingIsRefusedUnlessForced) {
  write_trace({.steps = 12}, [](TraceDb& db) {
    db.execute("UPDATE quality SET varying = 0.4 WHERE process_id = 2");
  });
  expect_refused(tune_with_device({}), "too noisy to plan from: rank 1: ");
  EXPECT_THAT(tune_with_device({"--force"}),
              test::exits(0, HasSubstr("warning: trace.db: rank 1: ")));
}

void let_rank_1_come_last(TraceDb& db) {
  db.execute(
      "UPDATE op SET end_ns = start_ns + 40000 WHERE kind = 'collective' AND stream_id IN "
      "(SELECT stream.id FROM stream JOIN process ON process.id = process_id WHERE rank = 1)");
}

TEST_F(PreserveTune, PlansForTheRankThatWaitsLeast) {
  write_trace({}, let_rank_1_come_last);
  EXPECT_THAT(
      tune_with_device({}),
      test::exits(0, HasSubstr("planned for rank 1, which waits least: 360.00 us of a step in "
                               "collectives, rank 0 540.00 us")));
  EXPECT_EQ(schedule().rank, 1);
  EXPECT_EQ(tune_with_device({"--rank", "0", "--force"}).exit_code, 0);
  EXPECT_EQ(schedule().rank, 0);
}

TEST_F(PreserveTune, OnOneHostALinkIsAllThatIsWaitedFor) {
  const auto usable_ns = [&](const Words& arguments) {
    succeeded(tune_with_device(words(arguments, "--force")));
    return schedule().plan.windows.at(0).usable_ns + test::cpu_device().methods[0].start_latency_ns;
  };
  test::write_synthetic_trace(directory_ / "trace.db", {.allreduce_ns = 60'000});
  EXPECT_THAT(succeeded(tune_with_device({"--force"})).out,
              AllOf(HasSubstr("do-nothing: no window is long enough: at most 0 ns remain"),
                    HasSubstr("for 540.00 us of the step the core works for the collectives")));
  EXPECT_EQ(usable_ns({"--link", "50us"}), 50'000);
  // A rank that is asked for waits 20 us for the other one, also where steps are of unknown phase.
  for (const bool annotated : {true, false}) {
    test::write_synthetic_trace(directory_ / "trace.db",
                                {.allreduce_ns = 60'000, .annotate_steps = annotated},
                                let_rank_1_come_last);
    EXPECT_EQ(usable_ns({"--rank", "0"}), 20'000) << annotated;
  }
}

TEST_F(PreserveTune, SaysLossesOfTheRecordingFirst) {
  write_trace({}, [](TraceDb& db) {
    db.add_loss({0}, "nvtx", "dropped", 777);
    db.execute("UPDATE access SET confidence = 0.5");
    db.execute("UPDATE process SET complete = 0 WHERE rank = 1");
  });
  const test::Run run = succeeded(tune_with_device({}));
  const size_t lost = run.err.find("777 records of nvtx"), torn = run.err.find("was cut off"),
               other = run.err.find("low confidence");
  EXPECT_LT(lost, torn) << run.err;
  EXPECT_LT(torn, other) << run.err;
  EXPECT_NE(other, std::string::npos) << run.err;
  const std::vector<std::string> warnings = schedule().warnings;
  ASSERT_GE(warnings.size(), 3u);
  EXPECT_THAT(warnings[0], HasSubstr("777 records of nvtx"));
  EXPECT_THAT(warnings[1], HasSubstr("was cut off"));
}

TEST_F(PreserveTune, DoingNothingLeavesTheRejectedPlanToReplay) {
  DeviceModel device = test::cpu_device();
  device.cache_read_bandwidth_bytes_per_s = 20.05e9;
  device.methods[0].hit_read_bandwidth_bytes_per_s = 20.05e9;
  device.slowdown_per_byte_ns = 0;
  write_device(device);
  const test::Run run = succeeded(tune_with_device({}));
  EXPECT_THAT(run.out, AllOf(HasSubstr("do-nothing: "), HasSubstr("below 0.5 %"),
                             Not(HasSubstr("prefers"))));
  EXPECT_THAT(run.err, HasSubstr("next: preserve-replay trace.db schedule.json --candidates\n"));
  const Schedule planned = schedule();
  EXPECT_EQ(planned.plan.strategy, Strategy::none);
  EXPECT_TRUE(planned.plan.windows.empty());
  EXPECT_EQ(planned.plan.prefetch_step_ns, planned.plan.baseline_step_ns);
  EXPECT_EQ(planned.plan.speedup, 1);
  EXPECT_EQ(planned.plan.cache_peak_bytes, 0);
  EXPECT_GT(planned.plan.objective_ns, 0);
  ASSERT_FALSE(planned.candidates.empty());
  EXPECT_EQ(planned.candidates[0].verdict, PlanVerdict::prefetch);
  EXPECT_GT(planned.candidates[0].speedup, 1);
}

TEST_F(PreserveTune, NeverOverwritesUnasked) {
  ASSERT_EQ(tune_with_device({}).exit_code, 0);
  const std::string before = read_text_file(directory_ / "schedule.json");
  EXPECT_THAT(tune_with_device({"--strategy", "none"}), test::exits(2, HasSubstr("-f")));
  EXPECT_EQ(read_text_file(directory_ / "schedule.json"), before);
  EXPECT_EQ(tune_with_device({"--strategy", "none", "-f"}).exit_code, 0);
  EXPECT_EQ(schedule().plan.verdict, PlanVerdict::do_nothing);
  EXPECT_EQ(tune({"trace.db", "--device", "device.json", "-f", "-o", "trace.db"}).exit_code, 2);
}

TEST_F(PreserveTune, NoFileIsTwoThings) {
  const std::string model = test::model_file("llama3-8b");
  std::filesystem::copy_file(model, directory_ / "model.json");
  for (const Words& arguments : std::vector<Words>{{"-o", "model.json"},
                                                   {"--trace-out", "model.json"},
                                                   {"-o", "new", "--trace-out", "new"},
                                                   {"-o", "new", "--dimacs", "./new"}}) {
    EXPECT_THAT(tune(words("--model", "model.json", "--tp", "8", "--device",
                           test::device_file("h100-sxm"), "-f", arguments)),
                test::exits(2, HasSubstr("choose another name")))
        << arguments.back();
    EXPECT_EQ(read_text_file(directory_ / "model.json"), read_text_file(model));
    EXPECT_FALSE(std::filesystem::exists(directory_ / "new"));
  }
}

TEST_F(PreserveTune, ALinkLengthensWindowsAndStep) {
  ASSERT_EQ(tune_with_device({"-o", "a.json"}).exit_code, 0);
  ASSERT_EQ(tune_with_device({"-o", "b.json", "--link", "200us"}).exit_code, 0);
  const Schedule a = schedule("a.json"), b = schedule("b.json");
  EXPECT_EQ(b.link_latency_ns, 200'000);
  EXPECT_EQ(b.plan.baseline_step_ns - a.plan.baseline_step_ns,
            9 * 200'000);  // 8 allreduces, 1 allgather
  EXPECT_EQ(b.plan.windows[0].usable_ns - a.plan.windows[0].usable_ns, 200'000);
  EXPECT_GT(b.plan.objective_ns, a.plan.objective_ns);
}

TEST_F(PreserveTune, EveryStrategyAndOptionIsAccepted) {
  for (const Words& arguments : std::vector<Words>{{"--strategy", "bfs"},
                                                   {"--windows", "idle"},
                                                   {"--rank", "1"},
                                                   {"--budget", "1MiB"},
                                                   {"--candidates", "1"},
                                                   {"--method", "load"},
                                                   {"--min-prefetch", "64KiB"}}) {
    const test::Run run = tune_with_device(words(arguments, "-f"));
    EXPECT_EQ(run.exit_code, 0) << fmt::format("{}: {}", fmt::join(arguments, " "), run.err);
    EXPECT_NO_THROW(schedule());
  }
  EXPECT_EQ(schedule().plan.windows.size(), 9u);
}

// Without what calibration says of operators beside prefetches the default is collectives alone.
TEST_F(PreserveTune, IdleWindowsAreUsedWhereTheDeviceFileSaysWhatTheyCost) {
  DeviceModel device = test::gpu_device();
  device.memory_bandwidth_bytes_per_s = 20e9;
  device.cache_read_bandwidth_bytes_per_s = 60e9;
  device.methods[0].bandwidth_bytes_per_s = 10e9;
  const auto planned = [&](const Words& arguments) {
    write_device(device);
    succeeded(tune_with_device(words(arguments, "--force")));
    return schedule();
  };
  const Schedule collective = planned({"--windows", "collective", "--candidates", "1"});
  EXPECT_EQ(collective.windows_mode, "collective");
  const Schedule unknown = planned({});
  EXPECT_EQ(unknown.windows_mode, "collective");
  EXPECT_EQ(unknown.plan.windows.size(), collective.plan.windows.size());
  EXPECT_EQ(unknown.plan.prefetch_step_ns, collective.plan.prefetch_step_ns);
  for (const OperatorClass of : kOperatorClasses) {
    device.methods[0].operator_slowdown_per_byte_ns[of] = 1e-6;
  }
  const Schedule known = planned({});
  EXPECT_EQ(known.windows_mode, "idle");
  EXPECT_LE(known.plan.prefetch_step_ns, unknown.plan.prefetch_step_ns);
  EXPECT_EQ(to_json(planned({"--windows", "auto"})), to_json(known));
  EXPECT_THAT(tune({"trace.db", "--device", "device.json", "--windows", "all", "-f"}),
              test::exits(2, HasSubstr("auto")));
}

TEST_F(PreserveTune, ExplainsWindowByWindow) {
  const test::Run run = succeeded(tune_with_device({"--explain"}));
  for (const PlannedWindow& window : schedule().plan.windows) {
    EXPECT_THAT(run.out, HasSubstr(window.name));
  }
  EXPECT_THAT(run.out, AllOf(HasSubstr("layers.0.mlp.gate_up.weight"), HasSubstr("limited by"),
                             HasSubstr("every read hot"), HasSubstr("one more MiB"),
                             HasSubstr("not fuller: ")));
}

TEST_F(PreserveTune, AnOutsideSolverConfirmsTheOptimum) {
  if (test::run_program({"sh", "-c", "command -v glpsol"}).exit_code != 0) {
    GTEST_SKIP() << "glpsol (glpk-utils) is not installed";
  }
  ASSERT_EQ(tune_with_device({"--dimacs", "flow.min"}).exit_code, 0);
  const std::string problem = read_text_file(directory_ / "flow.min");
  const size_t scale_at = problem.find("c cost_per_ns ");
  ASSERT_NE(scale_at, std::string::npos);
  const double cost_per_ns = std::stod(problem.substr(scale_at + 14));
  succeeded(test::run_program({"glpsol", "--mincost", "flow.min", "-o", "flow.out"}, {},
                              directory_.path()));
  const std::string result = read_text_file(directory_ / "flow.out");
  const size_t at = result.find("Objective:");
  ASSERT_NE(at, std::string::npos);
  const double cost = std::stod(result.substr(at + 10));
  EXPECT_GT(schedule().plan.objective_ns, 0);
  EXPECT_NEAR(-cost / cost_per_ns, static_cast<double>(schedule().plan.objective_ns), 1.0);
}

TEST_F(PreserveTune, PlansAModelWithoutARecording) {
  const std::string h100 = test::device_file("h100-sxm");
  const Words model{"--model", test::model_file("llama3-8b"), "--tp", "4", "--device", h100};
  // There is no trace to replay.
  EXPECT_THAT(tune(model), test::exits(0, Not(HasSubstr("next:"))));
  EXPECT_EQ(schedule().trace_sha256, "");
  EXPECT_THAT(tune(words(model, "--trace-out", "model.db", "-f")),
              test::exits(0, HasSubstr("next: preserve-replay model.db schedule.json")));
  EXPECT_EQ(schedule().trace_sha256, sha256_of_file(directory_ / "model.db"));
  const Plan from_model = schedule().plan;
  ASSERT_EQ(tune({"model.db", "--device", h100, "-f"}).exit_code, 0);
  EXPECT_EQ(schedule().plan.objective_ns, from_model.objective_ns);
}

TEST_F(PreserveTune, RefusesBadUsage) {
  expect_refused(tune({"trace.db"}), "preserve-calibrate");
  expect_refused(tune({"--device", "device.json"}), "--model");
  expect_refused(tune_with_device({"--budget", "0"}), "budget of zero");
  expect_refused(tune_with_device({"--budget", "64MiB"}), "more than the cache");
  expect_refused(tune_with_device({"--budget", "100"}), "smallest slice");
  expect_refused(tune_with_device({"--method", "magic"}), "has: load");
  expect_refused(tune_with_device({"--rank", "9"}), "rank 9");
  expect_refused(tune_with_device({"--link", "5"}), "5");
  expect_refused(tune_with_device({"--link", "9000000s"}), "at most 10.00 s");
  expect_refused(tune_with_device({"--strategy", "magic"}), "flow, bfs, none");
  EXPECT_EQ(tune({}).exit_code, 2);
}

TEST_F(PreserveTune, RefusesBadFilesByName) {
  expect_refused(tune({"missing.db", "--device", "device.json"}), "missing.db");
  expect_refused(tune({"trace.db", "--device", "missing.json"}), "missing.json");
  expect_refused(tune({"device.json", "--device", "device.json"}), "device.json");
  expect_refused(tune({"trace.db", "--device", "trace.db"}), "trace.db is not JSON");
  expect_refused(tune_with_device({"-o", "nowhere/schedule.json"}), "nowhere");
  std::string text = to_json(test::cpu_device());
  text.replace(text.find("20000000000.0"), 13, "NaN");
  std::ofstream(directory_ / "device.json") << text;
  expect_refused(tune_with_device({}), "device.json");
}

TEST_F(PreserveTune, SaysWhatATraceLacks) {
  write_trace({.collectives = false});
  expect_refused(tune_with_device({}), "no collective");
  write_trace({.layers = 1, .steps = 1, .annotate_steps = false});
  expect_refused(tune_with_device({}), "no step");
  test::write_synthetic_trace(directory_ / "trace.db", {},
                              [](TraceDb& db) { db.set_meta("kind", "replay"); });
  expect_refused(tune_with_device({}), "is a replay, not a recording");
}

TEST_F(PreserveTune, HelpNamesDefaultsAndExitCodes) {
  EXPECT_THAT(succeeded(tune({"--help"})).out, AllOf(HasSubstr("--explain"), HasSubstr("16.0 KiB"),
                                                     HasSubstr("Exit codes"), HasSubstr("200us")));
}

}  // namespace
}  // namespace preserve
