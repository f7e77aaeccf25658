// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>

#include "planner/explore/cell/area.h"
#include "planner/explore/figures/figure.h"
#include "planner/explore/output.h"
#include "planner/explore/results.h"
#include "planner/explore/sweep.h"
#include "tests/planner/explore/points.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::fails_with;
using test::kExamples;
using test::TemporaryDirectory;
using testing::ElementsAre;
using testing::HasSubstr;

namespace fs = std::filesystem;

// --- keys ----------------------------------------------------------------------------------------

TEST(SweepKeys, ParseListsAndRanges) {
  EXPECT_THAT(parse_axis("batch=1,2,16").numbers, ElementsAre(1, 2, 16));
  EXPECT_THAT(parse_axis("context=1K:8K:log2").numbers, ElementsAre(1024, 2048, 4096, 8192));
  EXPECT_THAT(parse_axis("l2=8MiB:40MiB:+16MiB").words,
              ElementsAre("8388608", "25165824", "41943040"));
  EXPECT_THAT(parse_axis("bandwidth=1600GB/s,2TB/s").numbers, ElementsAre(1.6e12, 2e12));
  EXPECT_THAT(parse_axis("memory=1GB,1GiB,1TiB").numbers, ElementsAre(1e9, 1 << 30, 0x1p40));
  EXPECT_THAT(parse_axis("allreduce=20us").numbers, ElementsAre(20'000));
  EXPECT_THAT(parse_axis("compute=0.5:4:log2").numbers, ElementsAre(0.5, 1, 2, 4));
}

TEST(SweepKeys, RefuseWhatIsNone) {
  for (const auto& [text, message] :
       {std::pair("l3=8MiB", "did you mean"), std::pair("batch", "expected batch="),
        std::pair("batch=", "empty"), std::pair("batch=1,,2", "empty"),
        std::pair("batch=0", "whole number"), std::pair("batch=2,2", "twice"),
        std::pair("batch=8:1:log2", "FROM at most TO"), std::pair("batch=1:8", "log2"),
        std::pair("batch=1:8:log3", "log2"), std::pair("batch=1:8:+0", "whole number"),
        std::pair("context=1:134217728:+1", "more than"), std::pair("batch=2M", "1 to 1048576"),
        std::pair("l2=1KiB", "expected"), std::pair("l2=8", "expected"),
        std::pair("compute=nan", "factor"), std::pair("compute=-1", "factor"),
        std::pair("allreduce=20", "unit")}) {
    EXPECT_THAT([text = text] { parse_axis(text); }, fails_with(message)) << text;
  }
}

// --- sheets --------------------------------------------------------------------------------------

// Models and devices are named as shipped files.
Sweep sweep_of(std::vector<SweepSheet> sheets, bool whole_context = false) {
  for (SweepSheet& sheet : sheets) {
    for (SweepAxis& axis : sheet.axes) {
      if (axis.key != SweepKey::model && axis.key != SweepKey::device) continue;
      for (std::string& word : axis.words) {
        word = axis.key == SweepKey::model ? test::model_file(word) : test::device_file(word);
      }
    }
  }
  std::vector<std::string> warnings;
  SweepInputs inputs = load_inputs(sheets, "", warnings);
  return {std::move(sheets), std::move(inputs), {.whole_context = whole_context}};
}
Sweep sweep_of(std::initializer_list<const char*> axes) {
  return sweep_of(std::vector{sheet_of("sweep", axes)});
}

TEST(Sweep, NumbersCellsWithTheFirstAxisOutermost) {
  const Sweep sweep = sweep_of({"batch=1,2", "model=llama3-8b", "l2=8MiB,16MiB,32MiB",
                                "device=h100-sxm", "tp=4,8", "context=1K"});
  ASSERT_EQ(sweep.cells(), 12);
  EXPECT_EQ(sweep.point(1).ranks, 4);
  EXPECT_EQ(sweep.point(1).cache_bytes, 8 << 20);
  EXPECT_EQ(sweep.point(3).cache_bytes, 32 << 20);
  EXPECT_EQ(sweep.point(4).batch, 2);
  EXPECT_EQ(sweep.point(7).ranks, 8);
  EXPECT_EQ(sweep.point(12).cache_bytes, 32 << 20);
  EXPECT_EQ(sweep.point(12).context, 1024);
}

TEST(Sweep, RefusesWhatCannotWorkBeforeAnyWork) {
  const auto check = [](std::initializer_list<const char*> axes) {
    return [axes] { sweep_of(axes).check(false); };
  };
  EXPECT_THAT(check({"model=qwen2-7b", "device=h100-sxm", "tp=8"}),
              fails_with(ErrorKind::usage, HasSubstr("these do: 1, 2, 4")));
  EXPECT_THAT(check({"model=llama3-8b", "device=ascend-910b"}), fails_with("no allreduce time"));
  EXPECT_THAT(check({"model=llama3-8b", "device=ascend-910b", "allreduce=20us", "dtype=fp8"}),
              fails_with("arithmetic rate"));
  EXPECT_THAT(check({"model=llama3-8b", "device=h100-sxm", "network_latency=5us"}),
              fails_with("go together"));
  EXPECT_THAT(check({"model=llama3-8b", "device=h100-sxm", "network_latency=5us",
                     "network_bandwidth=50GB/s", "allreduce=5us"}),
              fails_with("changes nothing"));
  EXPECT_THAT(check({"model=llama3-8b", "device=h100-sxm", "tp=1", "allreduce=5us"}),
              fails_with("changes nothing"));
  EXPECT_THAT(check({"model=phi-3-medium", "device=h100-sxm", "context=4K,8K", "tp=2"}),
              fails_with("--whole-context"));
  EXPECT_THAT(check({"model=llama3-8b", "device=h100-sxm", "kv_heads=3"}),
              fails_with("cannot share"));
  EXPECT_THAT(check({"model=llama3-70b", "device=h100-sxm", "dtype=fp16", "tp=1,2",
                     "memory=16GB,64GB", "batch=4,1", "context=16K,4K"}),
              fails_with(ErrorKind::usage, HasSubstr("llama3-70b on 2 in fp16, batch 1 and context "
                                                     "4096, needs")));
  EXPECT_NO_THROW(sweep_of({"model=llama3-70b", "device=h100-sxm", "dtype=fp16", "tp=1,2",
                            "memory=16GB,90GB", "batch=4,1", "context=16K,4K"})
                      .check(false))
      << "one cell fits";
  EXPECT_THAT(check({"device=h100-sxm"}), fails_with("which model"));
  EXPECT_THAT(check({"model=llama3-8b"}), fails_with("which device"));
  EXPECT_THAT(
      [] {
        sweep_of({"batch=1:1000:+1", "context=1:1000:+1", "tp=1:64:+1"});
      },
      fails_with("more than"));
}

TEST(Figures, AllPassTheirOwnChecks) {
  for (const Figure& figure : figures()) {
    const Sweep sweep = sweep_of(figure.sheets(), figure.whole_context);
    EXPECT_NO_THROW(sweep.check(true)) << figure.name;
  }
  EXPECT_THAT([] { find_figure("footprnt"); }, fails_with("did you mean footprint"));
  EXPECT_EQ(find_figure(""), nullptr);
}

// --- running -------------------------------------------------------------------------------------

ExploreCell fake_cell(int64_t id) {
  ExploreCell cell;
  cell.id = id;
  cell.model = "a, \"model\"";
  cell.device = "device";
  cell.dtype = "int8";
  cell.status = id % 7 == 0 ? kExploreNotAvailable : kExploreDone;
  if (!cell.done()) cell.reason = "too large";
  cell.baseline_step_ns = 100 + static_cast<double>(id) / 3;
  cell.bfs_step_ns = cell.flow_step_ns = cell.fused_step_ns = cell.all_hot_step_ns = 50;
  return cell;
}

const SweepIdentity kIdentity{{"sheets", "s:batch=1,2"}, {"tool_version", "1"}, {"figure", ""}};

std::string csv(const ExploreResults& results) {
  std::string text;
  write_explore_csv(results.db(), [&](std::string_view part) { text += part; });
  return text;
}

bool run(ExploreResults& results, int threads,
         const std::function<ExploreCell(int64_t)>& evaluate = fake_cell,
         const std::function<bool()>& stop = {}, int64_t round_ns = 0) {
  CellWork<ExploreRow> work;
  work.threads = threads;
  work.round_ns = round_ns;
  work.evaluate = [&](int64_t id) { return explore_values(evaluate(id)); };
  work.record = [&](const ExploreRow& row) { results.record(row); };
  work.stop = stop;
  return run_cells(LoneRank(), results.missing(), work);
}

TEST(ExploreRun, GivesTheSameWhateverTheThreads) {
  constexpr int64_t kCells = 500;
  ExploreResults one("", kIdentity, kCells, false), many("", kIdentity, kCells, false);
  EXPECT_TRUE(run(one, 1));
  EXPECT_TRUE(run(many, 4));
  EXPECT_EQ(one.finished(), kCells);
  EXPECT_EQ(csv(one), csv(many));
  EXPECT_THAT(csv(one), HasSubstr("\"a, \"\"model\"\"\""));
}

TEST(ExploreRun, RowsAreTheSameAfterTheirWayBetweenRanks) {
  ExploreCell odd = fake_cell(3);
  odd.reason = "not UTF-8: \xff, \"quoted\"";
  odd.area_mm2 = 0.1 + 0.2;
  const std::vector<ExploreRow> rows{explore_values(fake_cell(1)), explore_values(odd)};
  const std::vector<ExploreRow> read = rows_from_text(rows_to_text(rows));
  ASSERT_EQ(read.size(), 2U);
  EXPECT_EQ(read[0], rows[0]);
  odd.reason = "not UTF-8: \xef\xbf\xbd, \"quoted\"";
  EXPECT_EQ(read[1], explore_values(odd));
}

TEST(ExploreRun, ResumesWhatWasStopped) {
  constexpr int64_t kCells = 300;
  const TemporaryDirectory directory;
  const fs::path file = directory / "explore.db";
  std::atomic<int64_t> evaluated = 0;
  const auto count = [&](int64_t id) {
    ++evaluated;
    return fake_cell(id);
  };
  {
    ExploreResults results(file, kIdentity, kCells, false);
    EXPECT_FALSE(run(results, 2, count, [&] { return evaluated >= 100; }));
    EXPECT_EQ(results.finished(), evaluated);
    EXPECT_EQ(results.db().meta("incomplete"), "1");
  }
  ExploreResults results(file, kIdentity, kCells, false);
  EXPECT_EQ(results.finished(), evaluated);
  EXPECT_TRUE(run(results, 2, count));
  EXPECT_EQ(evaluated, kCells) << "no cell twice";
  EXPECT_EQ(results.db().meta("incomplete"), "0");
  ExploreResults whole("", kIdentity, kCells, false);
  EXPECT_TRUE(run(whole, 1));
  EXPECT_EQ(csv(results), csv(whole));
}

TEST(ExploreRun, LosesNoFinishedCellWhenItIsKilled) {
  const TemporaryDirectory directory;
  const fs::path file = directory / "explore.db";
  const pid_t child = fork();
  if (child == 0) {
    ExploreResults results(file, kIdentity, 100, false);
    const auto until_killed = [](int64_t id) {
      if (id == 42) _exit(0);  // as if killed: nothing is closed
      return fake_cell(id);
    };
    run(results, 1, until_killed, {}, 3600 * 1'000'000'000LL);  // a round that does not end
  }
  waitpid(child, nullptr, 0);
  int64_t there = 0;
  read_explore_cells(TraceDb::open(file), [&](const ExploreCell&) { ++there; });
  EXPECT_EQ(there, 41) << "also for a report, before it is resumed";
  ExploreResults results(file, kIdentity, 100, false);
  EXPECT_EQ(results.finished(), 41);
  EXPECT_TRUE(run(results, 1));
  EXPECT_EQ(results.finished(), 100);
}

TEST(ExploreResults, RefuseAnotherSweepAndOtherFiles) {
  const TemporaryDirectory directory;
  const fs::path file = directory / "explore.db";
  { const ExploreResults begun(file, kIdentity, 2, false); }
  SweepIdentity other = kIdentity;
  other[0].second = "s:batch=1,4";
  EXPECT_THAT([&] { ExploreResults(file, other, 2, false); },
              fails_with("was begun with sheets \"s:batch=1,2\""));
  EXPECT_NO_THROW(ExploreResults(file, other, 2, true));
  test::write_synthetic_trace(directory / "trace.db", {});
  EXPECT_THAT([&] { ExploreResults(directory / "trace.db", kIdentity, 2, false); },
              fails_with("was not written by preserve-explore"));
}

TEST(ExploreResults, ReadTheirSheets) {
  const Sweep sweep =
      sweep_of({"model=llama3-8b", "device=h100-sxm", "batch=1,2", "l2=8MiB,16MiB"});
  ExploreResults results("", {{"sheets", to_text(sheets_of(sweep))}}, sweep.cells(), false);
  const std::vector<ExploreSheet> sheets = read_explore_sheets(results.db());
  ASSERT_EQ(sheets.size(), 1U);
  EXPECT_EQ(sheets[0].cells, 4);
  EXPECT_EQ(sheets[0].axes.back().key, "l2");
  EXPECT_THAT(sheets[0].axes.back().values, ElementsAre("8388608", "16777216"));
}

TEST(ExploreResults, RefuseDamagedSheets) {
  for (const char* text : {"", "sweep", "sweep:l2", "sweep:l2=1|", "a:x=1;;y=2"}) {
    ExploreResults results("", {{"sheets", text}}, 1, false);
    EXPECT_THAT([&] { read_explore_sheets(results.db()); }, fails_with("is damaged")) << text;
  }
  const TemporaryDirectory directory;
  test::write_synthetic_trace(directory / "trace.db", {});
  EXPECT_THAT([&] { read_explore_sheets(TraceDb::open(directory / "trace.db")); },
              fails_with("was not written by preserve-explore"));
}

TEST(ExploreResults, RefuseImpossibleCells) {
  ExploreResults results("", kIdentity, 5, false);
  ExploreCell cell = fake_cell(1);
  cell.flow_step_ns = 0;
  results.record(explore_values(cell));
  EXPECT_THAT([&] { csv(results); }, fails_with("a step of 0 ns"));
}

// --- area ----------------------------------------------------------------------------------------

TEST(AreaModel, AddsUpTheShippedConstants) {
  const AreaModel n7 = load_area_model(kExamples + "area/n7.json");
  const DeviceSize small{.cache_bytes = 8 << 20,
                         .memory_bytes = 64'000'000'000,
                         .memory_bandwidth_bytes_per_s = 1.6e12,
                         .fp16_per_s = 376e12};
  DeviceSize large = small;
  large.cache_bytes = 104 << 20;
  EXPECT_NEAR(area_mm2(n7, large) - area_mm2(n7, small), 96 * 2.369, 0.1);
  EXPECT_GT(cost(n7, large), cost(n7, small));
  EXPECT_GT(cost(n7, small), 7 * 64);
}

TEST(AreaModel, RefusesOtherFiles) {
  const TemporaryDirectory directory;
  const auto refuse = [&](const std::string& text, const char* message) {
    std::ofstream(directory / "a.json") << text;
    EXPECT_THAT([&] { load_area_model(directory / "a.json"); },
                fails_with(ErrorKind::input, HasSubstr(message)))
        << text;
  };
  refuse("[", "not a JSON object");
  refuse("{}", "is missing");
  refuse(R"({"sram_mm2_per_mib": 3})", "expected");
  refuse(R"({"sram_mm2_per_mib": {"value": -1, "source": "me"}})", "out of range");
  refuse(R"({"sram_mm2_per_mib": {"value": 1e400, "source": "me"}})", "");
}

}  // namespace
}  // namespace preserve
