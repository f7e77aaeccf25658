// SPDX-License-Identifier: Apache-2.0
// The page itself: closed to the network, proof against hostile names, silent in a real browser.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "common/text.h"
#include "reports/render.h"
#include "tests/reports/two_scenarios.h"

namespace preserve::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<std::string> kHostileNames{"</script><script>document.title='pwned'</script>",
                                             "\"><img src=x onerror=alert(1)>",
                                             "'onmouseover='alert(1)",
                                             "<!--<script>",
                                             "{{data}}{{body}}",
                                             "\x01\x1b[31mred\x7f",
                                             "right\u202Eto\u2066left",
                                             "=HYPERLINK(\"http://example.org\")",
                                             "@everyone `code` | [link](http://example.org)",
                                             std::string(1'000'000, 'n')};

Report hostile_report(const test::TemporaryDirectory& directory) {
  const auto trace = directory / "trace.db";
  test::write_synthetic_trace(trace, {.layers = 2}, [](TraceDb& db) {
    // Every name in the file becomes one of the hostile ones.
    const auto count = static_cast<int64_t>(kHostileNames.size());
    for (int64_t i = 0; i < count; ++i) {
      db.execute("UPDATE string SET value = ? || id WHERE id % ? = ? AND value <> 'decode_step'",
                 {kHostileNames[static_cast<size_t>(i)], count, i});
    }
    db.execute("UPDATE process SET command = ?, host = ?", {kHostileNames[0], kHostileNames[1]});
    db.execute("UPDATE collective SET function = ?, dtype = ?",
               {kHostileNames[0], kHostileNames[8]});
    db.add_env({1}, "OMP_NUM_THREADS", kHostileNames[0]);
    db.add_loss({1}, kHostileNames[3], kHostileNames[1], 5);
    db.add(DeviceRow{.host = "h", .kind = "cpu", .name = kHostileNames[0]});
  });
  Schedule schedule = test::make_schedule(trace);
  schedule.warnings = {kHostileNames[0]};
  schedule.plan.reasons = {kHostileNames[1]};
  schedule.device_name = kHostileNames[2];
  test::write_schedule(directory / "schedule.json", schedule);
  test::write_replay(directory / "replay.db", directory / "schedule.json", {}, [](TraceDb& db) {
    db.set_meta("notes", kHostileNames[0]);
    db.execute("UPDATE arm SET name = ? WHERE name = 'null'", {kHostileNames[0]});
  });
  return report_of({trace, directory / "schedule.json", directory / "replay.db"});
}

// Markup alone: what is left of the page without texts, embedded data and quoted attribute values.
std::string markup_of(const std::string& html) {
  std::string out;
  char quote = 0;
  bool in_tag = false;
  for (const char c : html) {
    if (!in_tag && c == '<') in_tag = true;
    if (in_tag && (c == '"' || c == '\'')) quote = quote == 0 ? c : quote == c ? '\0' : quote;
    if (in_tag) out += c;
    if (in_tag && quote == 0 && c == '>') in_tag = false;
  }
  return out;
}

// What the page's script reads.
nlohmann::json embedded_in(const std::string& html) {
  constexpr std::string_view kBegin = "<script type=\"application/json\" id=\"report\">";
  const size_t begin = html.find(kBegin) + kBegin.size();
  return nlohmann::json::parse(html.substr(begin, html.find("</script>", begin) - begin));
}

struct Html : TwoScenarios {};

TEST_F(Html, OfALongStepHoldsTheLongestOperatorsAndThePrefetches) {
  Report report = report_of(paths);
  EXPECT_FALSE(embedded_in(to_html(report))["step"].contains("left_out"));
  std::vector<TimelineOp>& ops = report.step.value->ops;
  // Real operators are short against the last of those that are added.
  for (TimelineOp& op : ops) op.dur_ns = 1;
  while (ops.size() < 30'000) {
    TimelineOp next = ops.back();
    next.start_ns += next.dur_ns;
    next.dur_ns = ++next.ordinal;
    ops.push_back(std::move(next));
  }
  report.step.value->wall_ns = ops.back().start_ns + ops.back().dur_ns;
  const std::string html = to_html(report);
  EXPECT_THAT(html, HasSubstr("Of its 30,000 operators this page holds 10,000"));
  EXPECT_THAT(html, HasSubstr("id=\"timeline-still\"")) << "the picture stays";
  const nlohmann::json data = embedded_in(html);
  EXPECT_EQ(data["step"]["left_out"], 20'000);
  std::set<int64_t> held;
  for (const nlohmann::json& op : data["step"]["operators"])
    held.insert(op["ordinal"].get<int64_t>());
  EXPECT_EQ(held.size(), 10'000U);
  EXPECT_EQ(held.count(20'100), 1U) << "one of the longest";
  EXPECT_EQ(held.count(19'900), 0U);
  const auto gone = [&](const auto& op) { return held.count(op.ordinal) == 0; };
  int64_t bytes = 0, slower_ns = 0;
  for (const TimelineOp& op : ops) bytes += gone(op) ? op.weight_bytes + op.kv_bytes : 0;
  for (const OperatorTimes& op : report.scenarios[0].operators) {
    if (gone(op)) slower_ns += *op.baseline_ns - ops[static_cast<size_t>(op.ordinal)].dur_ns;
  }
  EXPECT_EQ(data["step"]["left_out_bytes"], bytes);
  EXPECT_GT(slower_ns, 0);
  EXPECT_EQ(data["scenarios"][0]["left_out"]["baseline_ns"], slower_ns);
  for (TimelineOp& op : ops) op.dur_ns = 1;
  const nlohmann::json same = embedded_in(to_html(report))["step"]["operators"];
  EXPECT_NEAR(same[5'000]["ordinal"].get<double>(), 15'000, 1'000) << "equals: from everywhere";
  for (size_t i = 0; i < report.scenarios.size(); ++i) {
    const std::vector<Window>& windows = report.scenarios[i].plan.windows;
    const nlohmann::json& plan = data["scenarios"][i]["plan"];
    ASSERT_EQ(plan["windows"].size(), windows.size()) << "short, but what the plan is about";
    for (size_t w = 0; w < windows.size(); ++w) {
      EXPECT_EQ(plan["windows"][w]["prefetches"].size(), windows[w].prefetches.size());
      EXPECT_EQ(held.count(windows[w].ordinal), 1U);
      for (const Prefetch& p : windows[w].prefetches) EXPECT_EQ(held.count(p.consumer_ordinal), 1U);
    }
  }
}

TEST_F(Html, LoadsNothingFromOutside) {
  for (const Report& report : {report_of(paths), hostile_report(directory)}) {
    const std::string markup = markup_of(to_html(report));
    EXPECT_FALSE(std::regex_search(
        markup, std::regex(R"((src|href|action|data|srcset|poster)="(?!data:,|#))")));
    EXPECT_THAT(markup, Not(HasSubstr("http://")));
    EXPECT_THAT(markup, Not(HasSubstr("https://")));
    EXPECT_THAT(to_html(report), Not(HasSubstr("@import")));
    EXPECT_THAT(to_html(report), Not(HasSubstr("url(")));
    EXPECT_THAT(markup, HasSubstr("default-src 'none'"));
    EXPECT_THAT(markup, Not(HasSubstr("unsafe")));
    EXPECT_THAT(markup, HasSubstr("script-src 'sha256-"));
  }
}

TEST_F(Html, ShowsHostileNamesAsTextAndNothingElse) {
  const std::string html = to_html(hostile_report(directory));
  EXPECT_EQ(count_of(html, "<script"), 2U) << "the data block and the page's own";
  EXPECT_EQ(count_of(html, "</script"), 2U);
  EXPECT_EQ(count_of(html, "<img"), 0U);
  EXPECT_EQ(count_of(html, "<!--"), 0U);
  EXPECT_FALSE(std::regex_search(markup_of(html), std::regex("<[^>]* on[a-z]+=")));
  EXPECT_THAT(html, Not(HasSubstr("\u202E")));
  EXPECT_THAT(html, Not(HasSubstr("\x1b")));
  EXPECT_THAT(html, HasSubstr("&lt;/script&gt;"));
  EXPECT_LT(html.size(), 2'000'000U) << "a name of one megabyte is cut";
}

TEST_F(Html, EmbedsTheJsonReportUnchanged) {
  const Report report = hostile_report(directory);
  EXPECT_EQ(embedded_in(to_html(report)), nlohmann::json::parse(to_json(report)));
}

TEST_F(Html, BalancesItsTags) {
  expect_balanced(
      markup_of(to_html(hostile_report(directory))),
      {"table", "tbody", "tr",   "th",   "td",   "svg", "div", "p",     "details", "summary",
       "ul",    "li",    "span", "main", "body", "h2",  "h3",  "title", "desc",    "text"});
}

TEST_F(Html, GivesEveryPictureATitleAndEveryHeaderAScope) {
  const std::string html = to_html(report_of(paths));
  EXPECT_EQ(count_of(html, "<svg role=\"img\""), count_of(html, "<desc>"));
  EXPECT_EQ(count_of(html, "<th "), count_of(html, "<th scope="));
  EXPECT_EQ(count_of(html, "<th>"), 0U);
  for (const char* id : {"environment", "comparison", "time", "timeline", "plan", "operators",
                         "collectives", "cache", "counts", "why", "ranks", "definitions"}) {
    EXPECT_EQ(count_of(html, fmt::format("<h2 id=\"{}\"", id)), 1U) << id;
  }
}

TEST_F(Html, LinksItsHeadingsToTheirDefinitions) {
  const std::string html = to_html(report_of(paths));
  const std::regex link("class=\"definition\" href=\"#([^\"]+)\"");
  size_t links = 0;
  for (auto at = std::sregex_iterator(html.begin(), html.end(), link); at != std::sregex_iterator();
       ++at, ++links) {
    EXPECT_EQ(count_of(html, fmt::format("<h3 id=\"{}\"", (*at)[1].str())), 1U) << (*at)[1];
  }
  EXPECT_GE(links, 8U);
}

TEST_F(Html, IsSmallBeforeItsData) {
  const Report report = report_of(paths);
  EXPECT_LT(to_html(report).size() - to_json(report, -1).size(), 400'000U);
}

TEST_F(Html, DrawsNoMoreThanTheLimitForAHugeStep) {
  test::write_synthetic_trace(directory / "trace.db", {.ranks = 1, .layers = 1500, .steps = 2});
  const Report report = report_of({directory / "trace.db"});
  ASSERT_GT(report.step->ops.size(), 10'000U);
  const std::string html = to_html(report);
  EXPECT_LT(count_of(html, "<rect"), 9'000U) << "overview and close-up";
  EXPECT_THAT(html, HasSubstr("only the longest shows"));
}

TEST_F(Html, LeavesARealBrowsersConsoleEmpty) {
  const test::Run run = in_chromium(to_html(hostile_report(directory)));
  if (run.exit_code != 0 || run.out.empty())
    GTEST_SKIP() << "chromium does not run here: " << run.err;
  EXPECT_THAT(run.err, Not(HasSubstr("CONSOLE"))) << run.err;
  EXPECT_THAT(run.out, HasSubstr("<title>Preserve report</title>"));
  EXPECT_EQ(count_of(run.out, "<script"), count_of(run.out, "</script"));
  EXPECT_THAT(run.out, HasSubstr("id=\"counts\"")) << "parsed to the end";
}

}  // namespace
}  // namespace preserve::report
