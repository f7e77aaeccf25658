// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/output_file.h"
#include "profiler/export/chrome.h"
#include "profiler/summary/summary.h"
#include "tests/profiler/import/support.h"

namespace preserve::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Exporting : public Importing {
 protected:
  TraceDb overlapping_trace() const {
    return import_events({kineto_event("user_annotation", "forward", 5, 90, 70),
                          kineto_event("cpu_op", "aten::mm", 8, 4, 70), kineto_launch(9, 1),
                          kineto_launch(10, 2), kineto_kernel("gemm_a", 20, 10, 7, 1),
                          kineto_kernel("gemm_b", 28, 10, 7, 2),
                          kineto_kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL", 34, 16, 8, 3)})
        .db;
  }
  // The events of an export.
  json exported(const char* trace,
                const std::optional<std::filesystem::path>& schedule = std::nullopt) const {
    Console console;
    console.configure(true, 0, Console::Color::never);
    exporter::run_export(directory_ / trace, "chrome", schedule, directory_ / "out.json", true,
                         console);
    return json::parse(read_text_file(directory_ / "out.json")).at("traceEvents");
  }
};
using ChromeExport = Exporting;
using Summary = Exporting;

TEST_F(ChromeExport, SlicesOfATrackNestOrAreApart) {
  overlapping_trace();
  std::map<std::pair<int64_t, int64_t>, std::vector<std::pair<double, double>>> tracks;
  for (const json& event : exported("imported.db")) {
    if (event.at("ph") != "X") continue;
    const double start = event.at("ts");
    tracks[{event.at("pid"), event.at("tid")}].emplace_back(start,
                                                            start + event.at("dur").get<double>());
  }
  EXPECT_EQ(tracks.size(), 4u);  // thread, stream 7, its overlap, stream 8
  for (auto& [track, slices] : tracks) {
    std::sort(slices.begin(), slices.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : a.second > b.second;
    });
    std::vector<double> open;
    for (const auto& [start, end] : slices) {
      while (!open.empty() && open.back() <= start + 1e-9) open.pop_back();
      const double limit = open.empty() ? end : open.back();
      EXPECT_LE(end, limit + 1e-9);
      open.push_back(end);
    }
  }
}

TEST_F(ChromeExport, ArrowsHaveTwoEnds) {
  overlapping_trace();
  std::map<int64_t, std::string> ends;
  for (const json& event : exported("imported.db")) {
    const std::string phase = event.at("ph");
    if (phase == "s" || phase == "f") ends[event.at("id").get<int64_t>()] += phase;
  }
  EXPECT_EQ(ends.size(), 2u);  // the NCCL kernel has no launch
  for (const auto& [id, phases] : ends) EXPECT_EQ(phases, "sf") << id;
}

TEST_F(ChromeExport, AnyTraceOfOursIsExported) {
  write_synthetic_trace(directory_ / "trace.db", {.ranks = 2, .layers = 2, .steps = 3});
  int64_t operators = 0;
  bool counter = false;
  for (const json& event : exported("trace.db")) {
    operators += event.value("cat", "") == "host_op" || event.value("cat", "") == "kernel" ? 1 : 0;
    counter = counter || event.at("ph") == "C";
  }
  EXPECT_EQ(operators,
            TraceDb::open(directory_ / "trace.db").query_integer("SELECT COUNT(*) FROM op"));
  EXPECT_TRUE(counter);
}

TEST_F(ChromeExport, ThePlanOfAPrefillIsDrawnInPrefills) {
  write_synthetic_trace(
      directory_ / "trace.db", {.ranks = 1, .layers = 2, .steps = 5},
      [](TraceDb& db) { db.execute("UPDATE step SET phase = 'prefill' WHERE ordinal < 2"); });
  const std::string digest = sha256_of_file(directory_ / "trace.db");
  const auto drawn = [&](const char* trace) {
    const auto schedule = write_text(
        "schedule.json", fmt::format(R"({{"schema": "preserve/schedule", "version": "1.2",
          "trace": {{"sha256": "{}", {}}},
          "windows": [{{"ordinal": 4, "usable_ns": 8000, "capacity_bytes": 800, "prefetches": [
          {{"tensor": "w1", "consumer": "gemm", "length_bytes": 100}}]}}]}})",
                                     digest, trace));
    const json events = exported("trace.db", schedule);
    return std::count_if(events.begin(), events.end(),
                         [](const json& event) { return event.value("cat", "") == "prefetch"; });
  };
  EXPECT_EQ(drawn(R"("rank": 0, "phase": "prefill")"), 2);
  EXPECT_EQ(drawn(R"("rank": 0)"), 3);
}

TEST_F(ChromeExport, PlannedPrefetchesOfEveryRankHaveTheRateOfTheirMethod) {
  write_synthetic_trace(directory_ / "trace.db", {.ranks = 2, .layers = 2, .steps = 3});
  const std::string digest = sha256_of_file(directory_ / "trace.db");
  const auto planned = [&](const std::string& windows) {
    const std::string text = fmt::format(
        R"({{"schema": "preserve/schedule", "version": "1.0", "trace": {{"sha256": "{}"}}{}}})",
        digest, windows);
    return exported("trace.db", write_text("schedule.json", text));
  };
  const json events = planned(R"(, "windows": [{"ordinal": 4, "usable_ns": 8000,
      "capacity_bytes": 800, "prefetches": [
      {"tensor": "w1", "consumer": "gemm", "length_bytes": 100},
      {"tensor": "w2", "consumer": "gemm", "length_bytes": 300}]}])");
  std::map<int64_t, std::vector<double>> durations;  // of each process
  for (const json& event : events) {
    if (event.value("cat", "") == "prefetch") durations[event.at("pid")].push_back(event.at("dur"));
  }
  EXPECT_EQ(durations.size(), 2u);
  for (const auto& [process, of_rank] : durations) {
    EXPECT_THAT(of_rank, testing::ElementsAre(1, 3, 1, 3, 1, 3)) << process;
  }
  for (const char* bad : {"", R"(, "windows": [{"ordinal": 4}])",
                          R"(, "windows": [{"ordinal": 4000, "usable_ns": 1, "capacity_bytes": 1,
      "prefetches": [{"tensor": "a", "consumer": "b", "length_bytes": 1}]}])"}) {
    EXPECT_THROW(planned(bad), Error) << bad;
  }
  for (const char* bad : {"{}", "[", R"({"schema": "preserve/schedule", "windows": []})"}) {
    EXPECT_THROW(exported("trace.db", write_text("bad.json", bad)), Error) << bad;
  }
}

TEST_F(Summary, TimesAreUnionsAndExposedTimeIsCommunicationAlone) {
  const TraceDb db = overlapping_trace();
  const auto process = summary::summarize_process(db, {1});
  EXPECT_EQ(process.operators, 3);
  EXPECT_EQ(process.wall_ns, 30'000);
  EXPECT_EQ(process.busy_ns, 30'000);
  EXPECT_EQ(process.summed_ns, 36'000);
  EXPECT_EQ(process.communication_ns, 16'000);
  EXPECT_EQ(process.exposed_ns, 12'000);  // from 38 to 50 us
  ASSERT_FALSE(process.classes.empty());
  EXPECT_EQ(process.classes.front().name, "matmul");
  EXPECT_EQ(process.classes.front().busy_ns, 18'000);
}

TEST_F(Summary, LossesComeFirst) {
  const std::string text = summary::summarize(overlapping_trace());
  const size_t losses = text.find("LOST OR MISSING"), devices = text.find("DEVICES");
  ASSERT_NE(losses, std::string::npos);
  EXPECT_LT(losses, devices);
  EXPECT_THAT(text, HasSubstr("launch unmatched"));
}

TEST_F(Summary, WorksForRecordingsOfHostThreads) {
  write_synthetic_trace(directory_ / "trace.db");
  const std::string text = summary::summarize(TraceDb::open(directory_ / "trace.db"));
  EXPECT_THAT(text, HasSubstr("Nothing was lost."));
  EXPECT_THAT(text, HasSubstr("RANK 1 of 2"));
  EXPECT_THAT(text, HasSubstr("allreduce"));
}

}  // namespace
}  // namespace preserve::test
