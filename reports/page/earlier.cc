// SPDX-License-Identifier: Apache-2.0
// This run against an earlier one, and the ranks against one another.
#include <fmt/ranges.h>

#include <algorithm>

#include "common/units.h"
#include "reports/page/parts.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr size_t kRows = 200;  // more are in report.json

std::string time_or_none(const std::optional<int64_t>& dur_ns) {
  return dur_ns ? format_duration(*dur_ns) : "none";
}

std::string operator_changes(const Earlier& earlier) {
  HtmlTable table("Operators over all layers, time per step",
                  {"Operator", "Class", number("Count before"), number("Count now"),
                   number("Before"), number("Now"), number("Difference")});
  for (size_t i = 0; i < std::min(kRows, earlier.operators.size()); ++i) {
    const OperatorChange& op = earlier.operators[i];
    table.row({html_name(op.name), escape_html(op.kind), grouped(op.count.before.value_or(0)),
               grouped(op.count.after.value_or(0)), time_or_none(op.dur_ns.before),
               time_or_none(op.dur_ns.after), html_signed_time(op.dur_ns.difference())});
  }
  return table.finish() + html_more(earlier.operators.size(), kRows, "operators");
}

std::string window_changes(const Earlier& earlier) {
  if (earlier.windows.empty()) return "";
  HtmlTable table("Windows in which another plan fetches other bytes",
                  {"Window", "Scenario", number("Bytes before"), number("Bytes now"),
                   number("Predicted to save before"), number("Now")});
  const auto size = [](const std::optional<int64_t>& bytes) {
    return bytes ? format_size(*bytes) : "none";
  };
  for (size_t i = 0; i < std::min(kRows, earlier.windows.size()); ++i) {
    const WindowChange& w = earlier.windows[i];
    table.row({fmt::format("{}. {}", w.ordinal, html_name(w.name)), escape_html(w.scenario),
               size(w.used_bytes.before), size(w.used_bytes.after),
               time_or_none(w.predicted_saved_ns.before),
               time_or_none(w.predicted_saved_ns.after)});
  }
  return table.finish() + html_more(earlier.windows.size(), kRows, "windows");
}

// A row per run, this one last.
std::string runs_table(const Report& report) {
  HtmlTable table("Runs side by side", {"Run", "Command", number("Recorded step"),
                                        "This run's step", wide("Also differs")});
  for (const Earlier& run : report.earlier) {
    table.row({html_name(run.path), html_name(run.command), time_or_none(run.step_ns.before),
               escape_html(run.step_word),
               escape_html(fmt::format("{}", fmt::join(run.differences, ", ")))});
  }
  table.row({html_name(clean(report.inputs.front().path.string())) + " (this run)",
             html_name(report.recording.command),
             report.step ? format_duration(report.step->wall_ns) : "none", "", ""});
  return table.finish();
}

std::string speedup_changes(const Earlier& earlier) {
  if (earlier.speedups.empty()) return "";
  HtmlTable table("Measured speed-up of the plan",
                  {"Scenario", number("Before"), number("Now"), "Judgement"});
  for (const SpeedupChange& change : earlier.speedups) {
    table.row({escape_html(change.scenario), speedup_text(change.before),
               speedup_text(change.after), escape_html(change.word)});
  }
  return table.finish();
}

}  // namespace

std::string html_earlier(const Report& report) {
  if (report.earlier.empty()) return "";
  std::string out = html_section("earlier", "Against an earlier run") + runs_table(report);
  for (const Earlier& run : report.earlier) {
    const std::string changes = speedup_changes(run) + operator_changes(run) + window_changes(run);
    out += fmt::format("<h3>{}</h3>\n", escape_html(run.path));
    out += report.earlier.size() == 1 ? changes : html_folded("What changed", changes);
  }
  return out +
         html_how(
             "Undecided means that the two intervals overlap, so the runs do not tell. Operators "
             "meet by name without layer numbers, windows by place and name; none says that one of "
             "the runs does not have it.");
}

std::string html_ranks(const TimeUse& use) {
  if (use.ranks.size() < 2) return "";
  const auto working_ns = [](const RankTime& rank) {
    const int64_t talk_ns = rank.classes[2].exclusive_ns + rank.classes[3].exclusive_ns;
    return (rank.wall_ns - talk_ns) / std::max<int64_t>(1, rank.steps);
  };
  const auto [least, most] = std::ranges::minmax_element(use.ranks, {}, working_ns);
  const int64_t step_ns = most->wall_ns / std::max<int64_t>(1, most->steps);
  const double skew = step_ns > 0 ? static_cast<double>(working_ns(*most) - working_ns(*least)) /
                                        static_cast<double>(step_ns)
                                  : 0;
  HtmlTable table(
      fmt::format("Ranks, mean per step; the slowest works {} of a step longer than the fastest",
                  html_percent(skew)),
      {"Rank", number("Steps"), number("Step"), number("In collectives and messages"),
       number("All else"), "Remark"});
  for (const RankTime& rank : use.ranks) {
    const int64_t wall_ns = rank.wall_ns / std::max<int64_t>(1, rank.steps);
    table.row({escape_html(rank.name()), grouped(rank.steps), format_duration(wall_ns),
               format_duration(wall_ns - working_ns(rank)), format_duration(working_ns(rank)),
               &rank == &*most    ? "slowest: the others wait for it"
               : &rank == &*least ? "fastest"
                                  : ""});
  }
  return html_section("ranks", "Ranks") + table.finish() +
         html_how(
             "A rank that works longer arrives last at collectives and spends the least time in "
             "them. What the others wait is part of their windows, but goes when the slowest rank "
             "gets faster.");
}

}  // namespace preserve::report
