// SPDX-License-Identifier: Apache-2.0
#include "reports/model/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "common/error.h"
#include "common/output_file.h"
#include "db/replay_result.h"
#include "planner/schedule/schedule_check.h"
#include "replay/grid/cell_run.h"
#include "replay/grid/text.h"
#include "replay/measure/summary.h"
#include "reports/render.h"
#include "tests/reports/two_scenarios.h"
#include "tests/support/errors.h"

namespace preserve::report {
namespace {

using test::fails_with;
using ::testing::AllOf;
using ::testing::HasSubstr;

// What differs from run to run: the folder, and digests and sizes of SQLite files.
std::string without_accidents(std::string json, const std::filesystem::path& directory) {
  const std::string folder = directory.string() + "/";
  for (size_t at = json.find(folder); at != std::string::npos; at = json.find(folder))
    json.erase(at, folder.size());
  json = std::regex_replace(json, std::regex("[0-9a-f]{64}"), std::string(64, '0'));
  return std::regex_replace(json, std::regex("\"bytes\": [0-9]+,(\\s+\"sha256\")"),
                            "\"bytes\": 0,$1");
}

// The golden file leaves out the samples: a number per line, which nobody would read.
std::string without_samples(const std::string& text) {
  auto json = nlohmann::ordered_json::parse(text);
  for (auto& scenario : json.at("scenarios")) {
    if (scenario.at("measured").is_null()) continue;
    for (auto& arm : scenario.at("measured").at("arms")) arm.erase("taken");
  }
  return json.dump(1) + "\n";
}

std::string texts_of(const std::vector<Warning>& warnings) {
  std::string all;
  for (const Warning& warning : warnings) all += warning.text;
  return all;
}

struct ReportFiles : TwoScenarios {};
struct InputFiles : TwoScenarios {};

TEST_F(ReportFiles, OfTwoScenariosIsTheGoldenOne) {
  const Report report = report_of(paths);
  const std::string json = without_samples(without_accidents(to_json(report), directory.path()));
  EXPECT_EQ(json, test::golden("two_scenarios.json", json)) << "UPDATE_GOLDEN=1 rewrites it";
  EXPECT_THAT(schema_errors(to_json(report)), "");
}

TEST_F(ReportFiles, NamesStandInsForCollectives) {
  test::write_replay(directory / "replay.db", directory / "schedule.json", {},
                     [](TraceDb& db) { db.set_meta("collective", "stand-in"); });
  test::write_replay(directory / "replay-link.db", directory / "schedule-link.json", {},
                     [](TraceDb& db) { db.set_meta("collective", "stand-in+link"); });
  const Report report = report_of(paths);
  EXPECT_THAT(report.sentences[0], HasSubstr("with stand-in collectives"));
  EXPECT_THAT(report.sentences[1],
              HasSubstr("with a 200 us stand-in link and stand-in collectives"));
}

TEST_F(ReportFiles, CarriesEverySampleOfAnArm) {
  const Report report = report_of(paths);
  const Arm& arm = report.scenarios[1].measured->arms[1];
  ASSERT_EQ(arm.taken.size(), 45U);
  EXPECT_EQ(arm.taken_every, 1);
  EXPECT_EQ(arm.taken[0].discarded, "warm-up");
  EXPECT_EQ(arm.taken[44].pair, 44);
  EXPECT_EQ(arm.taken[44].discarded, "");
}

TEST_F(ReportFiles, PutsSeriousWarningsFirst) {
  const Report report = report_of_replay({.warning = "a caution"}, [](TraceDb& db) {
    db.execute("UPDATE result SET fidelity = 1.5");
  });
  ASSERT_GE(report.warnings.size(), 2U);
  EXPECT_EQ(report.warnings.front().severity, Severity::serious);
  EXPECT_EQ(report.warnings.back().severity, Severity::caution);
}

TEST_F(ReportFiles, MatchesReplaysToSchedulesInWhateverOrder) {
  const std::vector<std::filesystem::path> shuffled{paths[4], paths[1], paths[3], paths[0],
                                                    paths[2]};
  const Report report = report_of(shuffled);
  ASSERT_EQ(report.scenarios.size(), 2U);
  for (const Scenario& scenario : report.scenarios) {
    ASSERT_TRUE(scenario.measured);
    const bool link = scenario.link_latency_ns > 0;
    EXPECT_THAT(scenario.measured->replay_path, HasSubstr(link ? "replay-link.db" : "replay.db"));
  }
}

TEST_F(ReportFiles, CarriesLossesAndTheWarningsOfEveryStage) {
  const Report report = report_of(paths);
  ASSERT_EQ(report.recording.losses.size(), 1U);
  EXPECT_EQ(report.recording.losses[0].count, 3);
  EXPECT_THAT(texts_of(report.warnings), HasSubstr("the machine was busy"));
  for (const Format format : {Format::html, Format::md}) {
    EXPECT_THAT(render(report, format), HasSubstr("dropped"));
    EXPECT_THAT(render(report, format), HasSubstr("the machine was busy"));
  }
}

TEST_F(ReportFiles, SaysAWarningOfTwoSchedulesOnce) {
  for (const auto& [path, link_ns] : {std::pair(paths[1], 0), std::pair(paths[3], 200'000)}) {
    Schedule schedule = test::make_schedule(paths[0], link_ns);
    schedule.warnings = {"bytes are unknown"};
    test::write_schedule(path, schedule);
  }
  const Report report = report_of({paths[0], paths[1], paths[3]});
  ASSERT_EQ(report.warnings.size(), 1U);
  EXPECT_THAT(report.warnings[0].source,
              AllOf(HasSubstr("schedule.json, "), HasSubstr("schedule-link.json")));
}

TEST_F(ReportFiles, WarnsOfAReplayThatIsNotTheRecordedStep) {
  const auto warnings = [&](double share_of_recorded) {
    return texts_of(report_of_replay({}, [&](TraceDb& db) {
                      db.execute("UPDATE result SET fidelity = ?", {share_of_recorded});
                    }).warnings);
  };
  EXPECT_THAT(warnings(1), testing::Not(HasSubstr("verdict says little")));
  EXPECT_THAT(warnings(1.25), HasSubstr("the recorded step, so its verdict says little"));
  EXPECT_THAT(warnings(0.8), HasSubstr("the recorded step, so its verdict says little"));
}

TEST_F(ReportFiles, ShowsWhatTheReplayDecided) {
  const ReplayResult result = read_result(TraceDb::open(paths[4]));
  const Report report = report_of(paths);
  const Measured& measured = *report.scenarios[1].measured;
  EXPECT_EQ(measured.speedup->low, result.arms[1].speedup->low);
  EXPECT_EQ(measured.speedup->estimate, result.arms[1].speedup->estimate);
  EXPECT_EQ(measured.speedup->high, result.arms[1].speedup->high);
  EXPECT_EQ(measured.verdict, to_string(result.verdict));
  EXPECT_NEAR(measured.fidelity->step, 1.02, 1e-4);
  EXPECT_EQ(*measured.fidelity->operators, result.fidelity_op_median);
  EXPECT_EQ(*measured.collective_slowdown, result.collective_slowdown);
  EXPECT_NEAR(*measured.prediction_error, 0.0625, 0.1);
  EXPECT_EQ(measured.arms[1].discarded.at("warm-up"), 1);
  EXPECT_EQ(measured.arms[1].pairs, 44);
}

// A measurement whose interval ends so near to 1 that fewer resamples, another seed or another
// estimator would give other digits: every reader must print those that the replay decided.
TEST_F(ReportFiles, SummaryGridAndReportHaveOneIntervalAndOneVerdict) {
  const Report report = report_of_replay(
      {.prefetch_speedup = 1.009, .pairs = 400, .noise = 0.05, .overlap_arm = true});
  const ReplayResult result = read_result(TraceDb::open(paths[2]));
  const Interval interval = *result.arms[1].speedup->interval();
  ASSERT_GT(interval.high - interval.low, 1e-3);
  const std::string sentence = verdict_text(result);

  EXPECT_THAT(summary_of(result),
              AllOf(HasSubstr(fmt::format("{:.3f} to {:.3f}", interval.low, interval.high)),
                    HasSubstr(sentence)));
  const auto json = nlohmann::json::parse(to_json(report));
  const auto& measured = json.at("/scenarios/0/measured"_json_pointer);
  EXPECT_NEAR(measured.at("speedup").at("low").get<double>(), interval.low, 1e-6);
  EXPECT_NEAR(measured.at("speedup").at("high").get<double>(), interval.high, 1e-6);
  EXPECT_EQ(measured.at("verdict").get<std::string>(), to_string(result.verdict));
  EXPECT_THAT(json.at("sentences").at(0).get<std::string>(), HasSubstr(sentence));
  GridCell cell;
  take_results(load_schedule(paths[1]), result, cell);
  EXPECT_EQ(cell.speedup->low, interval.low);
  EXPECT_EQ(cell.speedup->high, interval.high);
  EXPECT_EQ(cell.verdict, result.verdict);
  ASSERT_TRUE(cell.fused && cell.fused->interval());
  EXPECT_NEAR(cell.fused->estimate, 1.009, 0.01);
  EXPECT_THAT(cell_line(cell),
              HasSubstr(fmt::format("{:.3f}, {:.3f}", interval.low, interval.high)));
}

TEST_F(ReportFiles, OccupancyRisesUnderWindowsFallsAtReadersAndWraps) {
  const Report report = report_of(paths);
  const PlanView& plan = report.scenarios[1].plan;
  ASSERT_EQ(plan.occupancy_bytes.size(), report.step->ops.size());
  const Window& last = plan.windows.back();
  ASSERT_TRUE(last.prefetches.front().next_step);
  EXPECT_EQ(plan.occupancy_bytes.back(), last.used_bytes) << "kept for the next step";
  EXPECT_EQ(plan.occupancy_bytes.front(), last.used_bytes);
  const Window& first = plan.windows.front();
  const auto before_reader = static_cast<size_t>(first.prefetches.front().consumer_ordinal) - 1;
  EXPECT_EQ(plan.occupancy_bytes[before_reader], first.used_bytes);
  EXPECT_EQ(plan.occupancy_bytes[before_reader + 1], 0);
}

TEST_F(ReportFiles, OfATraceAloneSaysWhatIsMissing) {
  test::write_synthetic_trace(directory / "trace.db");
  const Report report = report_of({directory / "trace.db"});
  EXPECT_THAT(report.sentences, ::testing::ElementsAre(HasSubstr("no schedule was given")));
  EXPECT_THAT(schema_errors(to_json(report)), "");
  EXPECT_THAT(to_csv(report), HasSubstr("\"recorded\",0,\"embed\",\"compute\",1000,,,,\r\n"));
}

TEST_F(ReportFiles, OfAnUnreplayedScheduleSaysThatNothingWasMeasured) {
  const Report report = report_of({paths[0], paths[1]});
  EXPECT_THAT(report.sentences, ::testing::ElementsAre(HasSubstr("Not measured (no replay.db")));
  EXPECT_THAT(schema_errors(to_json(report)), "");
  const auto json = nlohmann::json::parse(to_json(report));
  EXPECT_TRUE(json.at("/scenarios/0/measured"_json_pointer).is_null());
  EXPECT_THAT(json.at("/scenarios/0/measured_reason"_json_pointer).get<std::string>(),
              HasSubstr("no replay.db"));
}

TEST_F(ReportFiles, OfATraceWithoutStepsStillShowsTheRecording) {
  test::write_synthetic_trace(directory / "trace.db", {.steps = 1, .annotate_steps = false});
  const Report report = report_of({directory / "trace.db"});
  EXPECT_FALSE(report.step);
  EXPECT_THAT(report.step.reason, HasSubstr("no step was found"));
  EXPECT_THAT(report.sentences[0], HasSubstr(report.step.reason));
  EXPECT_GT(report.time_use.operators, 0);
  EXPECT_THAT(schema_errors(to_json(report)), "");
  EXPECT_THAT(to_html(report), HasSubstr("no step was found"));
}

TEST_F(ReportFiles, OfAReplayWithoutPrefetchArmGivesTheReason) {
  const Report report = report_of_replay({.prefetch_arm = false});
  EXPECT_FALSE(report.scenarios[0].measured->speedup);
  EXPECT_THAT(report.sentences[0], HasSubstr("no prefetch arm"));
  EXPECT_THAT(schema_errors(to_json(report)), "");
}

TEST_F(ReportFiles, OfTooFewPairsShowsNoInterval) {
  const Report report = report_of_replay({.pairs = 2});  // one of them is a warm-up
  const Measured& measured = *report.scenarios[0].measured;
  EXPECT_FALSE(measured.speedup);
  EXPECT_EQ(measured.verdict, "");
  EXPECT_THAT(report.sentences[0], HasSubstr("1 pair counted with the baseline, 10 are needed"));
  EXPECT_TRUE(measured.arms[0].step_ns);
  EXPECT_EQ(measured.arms[0].step_ns->low, measured.arms[0].step_ns->high);
  EXPECT_THAT(schema_errors(to_json(report)), "");
}

TEST_F(ReportFiles, JudgesNothingOnABusyMachine) {
  const Report report = report_of_replay({.busy = true});
  EXPECT_EQ(report.scenarios[0].measured->verdict, "AMBG");
  EXPECT_THAT(report.sentences[0], HasSubstr("too busy to decide"));
}

TEST_F(ReportFiles, SaysDoNothingWhenThatIsThePlan) {
  Schedule schedule = test::make_schedule(paths[0]);
  schedule.plan.verdict = PlanVerdict::do_nothing;
  schedule.plan.reasons = {"the windows are too short"};
  schedule.plan.windows.clear();
  schedule.plan.speedup = 1;
  schedule.plan.prefetch_step_ns = schedule.plan.baseline_step_ns;
  test::write_schedule(directory / "none.json", schedule);
  const Report report = report_of({paths[0], directory / "none.json"});
  EXPECT_EQ(report.sentences[0],
            "Planned: do nothing with real collectives: the windows are too short.");
  EXPECT_THAT(to_html(report), AllOf(HasSubstr("do-nothing"), HasSubstr("Nothing is prefetched")));
  test::write_replay(directory / "none.db", directory / "none.json", {.prefetch_speedup = 1});
  EXPECT_THAT(report_of({paths[0], directory / "none.json", directory / "none.db"}).sentences[0],
              AllOf(HasSubstr("Planned: do nothing"),
                    HasSubstr("Replayed all the same, it is 0.0 % faster")));
}

TEST_F(InputFiles, AScheduleOfAnotherRecordingGoesWithTheReplayOfIt) {
  const FoldedStep step = fold_step(TraceDb::open(paths[0]));
  Schedule schedule = test::make_schedule(paths[0]);
  schedule.signature = signature_of(step);
  name_places(step, schedule);
  test::write_schedule(paths[1], schedule);
  const auto again = directory / "again.db";
  test::write_synthetic_trace(again, {.layers = 2, .op_latency_ns = 1500});
  EXPECT_THAT(reading({again, paths[1]}),
              fails_with(ErrorKind::input, HasSubstr("another recording")));
  test::write_replay(paths[2], paths[1], {},
                     [&](TraceDb& db) { db.set_meta("trace_sha256", sha256_of_file(again)); });
  const Report report = report_of({again, paths[1], paths[2]});
  EXPECT_EQ(report.sentences.size(), 1U);
  EXPECT_TRUE(report.step);
}

TEST_F(InputFiles, OfAnotherTraceAreRefused) {
  test::write_synthetic_trace(directory / "other.db", {.layers = 3});
  EXPECT_THAT(
      reading({directory / "other.db", paths[1]}),
      fails_with(ErrorKind::input, AllOf(HasSubstr("schedule.json"), HasSubstr("another recording"),
                                         HasSubstr("other.db"))));
  EXPECT_THAT(
      reading({paths[0], paths[1], paths[4]}),
      fails_with(ErrorKind::input, AllOf(HasSubstr("replay-link.db"), HasSubstr("not given"))));
  EXPECT_THAT(reading({paths[1], paths[2]}), fails_with("no trace.db among the inputs"));
  EXPECT_THAT(reading({paths[0], paths[0]}), fails_with("given twice"));
}

TEST_F(InputFiles, ThatAreNoneOfOursAreRefused) {
  OutputFile(directory / "empty", false).write("");
  OutputFile(directory / "text", false).write("hello");
  OutputFile(directory / "other.json", false).write("{\"a\": 1}");
  EXPECT_THAT(reading({paths[0], directory / "empty"}), fails_with("it is empty"));
  EXPECT_THAT(reading({paths[0], directory / "text"}), fails_with("neither a trace.db"));
  EXPECT_THAT(reading({paths[0], directory / "other.json"}), fails_with("is not a schedule"));
  EXPECT_THAT(reading({paths[0], directory / "missing"}), fails_with("no such file"));
  EXPECT_THAT(reading({directory.path()}), fails_with("not a regular file"));
}

TEST_F(InputFiles, WithALinkThatDiffersFromThePlansAreRefused) {
  const auto with_link = [](TraceDb& db) {
    db.execute("UPDATE result SET link_latency_ns = 5000");
  };
  EXPECT_THAT([&] { report_of_replay({}, with_link); }, fails_with("link of 5000 ns"));
}

TEST_F(InputFiles, WithNonsenseInTheReplayAreRefused) {
  const auto with = [&](const std::string& sql) {
    report_of_replay({}, [&](TraceDb& db) { db.execute(sql); });
  };
  EXPECT_THAT([&] { with("DELETE FROM result"); }, fails_with("holds no result"));
  for (const char* sql :
       {"UPDATE arm SET step_ns = -1", "UPDATE arm SET step_ns = 1e300",
        "UPDATE arm SET speedup = 9e999 WHERE id = 2",
        "UPDATE arm SET speedup_low = NULL WHERE id = 2", "UPDATE arm SET speedup_low = 3",
        "UPDATE arm SET pairs = -1", "UPDATE result SET confidence_level = 2",
        "UPDATE result SET ranks = 0", "UPDATE result SET verdict = 'GOOD'"}) {
    EXPECT_THAT([&] { with(sql); }, fails_with(ErrorKind::input, AllOf(HasSubstr("replay.db"),
                                                                       HasSubstr("is damaged"))))
        << sql;
  }
  EXPECT_NO_THROW(with("UPDATE arm_op SET ordinal = ordinal + 1000000"));
}

TEST_F(InputFiles, SchedulesThatDoNotFitTheStepAreRefused) {
  Schedule schedule = test::make_schedule(paths[0]);
  schedule.plan.windows[0].prefetches[0].offset_bytes = int64_t{1} << 50;
  test::write_schedule(directory / "far.json", schedule);
  EXPECT_THAT(reading({paths[0], directory / "far.json"}),
              fails_with(ErrorKind::input,
                         AllOf(HasSubstr("far.json"), HasSubstr("from byte 1125899906842624 on"))));
}

TEST_F(InputFiles, ADamagedTraceIsNamed) {
  const auto with = [&](const std::string& sql) {
    test::write_synthetic_trace(directory / "trace.db", {}, [&](TraceDb& db) {
      db.execute("PRAGMA ignore_check_constraints = 1");
      db.execute(sql);
    });
    report_of({directory / "trace.db"});
  };
  EXPECT_THAT([&] { with("UPDATE op SET kind = 'dreaming'"); },
              fails_with(ErrorKind::input, AllOf(HasSubstr("trace.db"), HasSubstr("dreaming"))));
  EXPECT_THAT([&] { with("UPDATE step SET end_ns = 9000000000000000000 WHERE process_id = 1"); },
              fails_with(ErrorKind::input, AllOf(HasSubstr("trace.db"), HasSubstr("overflows"))));
  EXPECT_THAT([&] { with("UPDATE access SET bytes = -1"); }, fails_with("damaged"));
}

TEST_F(ReportFiles, WithNumbersThatDoNotAddUpAreFound) {
  Report report = report_of(paths);
  check_consistency(report);
  Report time = report, bytes = report, operators = report;
  time.time_use.ranks[0].classes[0].exclusive_ns -= 1;
  bytes.scenarios[0].plan.windows[0].used_bytes += 1;
  operators.time_use.top[0].count += 1;
  EXPECT_THROW(check_consistency(time), Error);
  EXPECT_THROW(check_consistency(bytes), Error);
  EXPECT_THROW(check_consistency(operators), Error);
}

TEST_F(ReportFiles, HoldVerdictsAndTablesInMarkdown) {
  const std::string text = to_markdown(report_of(paths));
  EXPECT_THAT(text, AllOf(HasSubstr("### Preserve report"),
                          HasSubstr("| 200 us stand-in link | **FAST** |"),
                          HasSubstr("\\[unattributed\\]")));
}

// A schedule of preserve-tune --measure brings the plans that were tried, in JSON and on the page.
TEST_F(ReportFiles, ShowsThePlansThatWereMeasured) {
  test::write_synthetic_trace(directory / "trace.db", {.layers = 2});
  Schedule schedule = test::make_schedule(directory / "trace.db");
  schedule.candidates = {schedule.plan, schedule.plan};
  schedule.plan.measured = PlanMeasurement{1.08, 1.07, 1.09, 40};
  schedule.candidates[0].measured = PlanMeasurement{1.05, {}, {}, 3};
  schedule.candidates[0].method = IssueMethod{"prefetcht1", "spare", 512, 0, "normal", "before"};
  test::write_schedule(directory / "schedule.json", schedule);
  const Report report = report_of({directory / "trace.db", directory / "schedule.json"});
  const std::vector<TriedPlan>& tried = report.scenarios[0].plan.tried;
  ASSERT_EQ(tried.size(), 2U);  // the third was not measured
  EXPECT_TRUE(tried[0].chosen);
  EXPECT_DOUBLE_EQ(tried[0].speedup->high, 1.09);
  EXPECT_EQ(tried[0].prefetched_bytes, report.scenarios[0].plan.prefetched_bytes);
  EXPECT_FALSE(tried[1].speedup);
  EXPECT_EQ(tried[1].issue, "prefetcht1 on the spare core, 512 B at a time, before the collective");
  EXPECT_THAT(to_html(report), HasSubstr("before the collective"));
  EXPECT_EQ(schema_errors(to_json(report)), "");
}

}  // namespace
}  // namespace preserve::report
