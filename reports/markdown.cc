// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <set>

#include "common/units.h"
#include "reports/render.h"
#include "reports/table.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

constexpr size_t kRows = 20;  // a comment is not the place for more

std::string plan_table(const std::vector<Scenario>& scenarios) {
  Table table{"",
              {"plan for", "strategy", "verdict", number("prefetched per step"),
               number("cache peak / budget"), "bounds: all hot, window, cache"}};
  std::set<std::string> told;  // several measurements of one schedule share its plan
  for (const Scenario& s : scenarios) {
    if (!told.insert(s.schedule_sha256).second) continue;
    table.rows.push_back({s.label, name_cell(s.plan.strategy), s.plan.verdict,
                          format_size(s.plan.prefetched_bytes),
                          fmt::format("{} / {}", format_size(s.plan.cache_peak_bytes),
                                      format_size(s.plan.budget_bytes)),
                          fmt::format("{}, {}, {}", format_duration(s.plan.all_hot_step_ns),
                                      format_duration(s.plan.window_limited_step_ns),
                                      format_duration(s.plan.cache_limited_step_ns))});
  }
  return markdown_table(table);
}

std::string time_table(const TimeUse& use) {
  Table table{"", {"rank"}};
  for (const char* name : kTimeClasses) table.heads.push_back(number(name));
  table.heads.push_back(number("wall per step"));
  for (size_t r = 0; r < std::min(use.ranks.size(), kRows); ++r) {
    const RankTime& rank = use.ranks[r];
    std::vector<Cell> row{rank.rank ? Cell(fmt::format("{}", *rank.rank))
                                    : name_cell(rank.process)};
    for (const ClassTime& time_class : rank.classes) {
      const double share = rank.wall_ns > 0 ? static_cast<double>(time_class.exclusive_ns) /
                                                  static_cast<double>(rank.wall_ns)
                                            : 0;
      row.emplace_back(fmt::format("{:.1f} %", share * 100));
    }
    row.emplace_back(format_duration(rank.wall_ns / std::max<int64_t>(1, rank.steps)));
    table.rows.push_back(std::move(row));
  }
  std::string out =
      fmt::format("Time by class ({}), share of wall:\n\n{}", use.scope, markdown_table(table));
  if (use.ranks.size() > kRows) {
    out += fmt::format("{} more ranks are in the JSON report.\n\n", use.ranks.size() - kRows);
  }
  return out;
}

std::string counters(const std::vector<CounterTotal>& totals) {
  if (totals.empty()) return "";
  return "Bytes per kernel:\n\n" + markdown_table(counter_table(totals), kRows);
}

std::string earlier(const Earlier& earlier) {
  const auto time = [](const std::optional<int64_t>& dur_ns) {
    return dur_ns ? format_duration(*dur_ns) : std::string("none");
  };
  std::string out = fmt::format("{}\n\n", markdown_prose(earlier.sentence));
  Table table{"", {"operator", "kind", number("before"), number("now")}};
  for (size_t i = 0; i < std::min(earlier.operators.size(), kRows); ++i) {
    const OperatorChange& op = earlier.operators[i];
    table.rows.push_back(
        {name_cell(op.name), op.kind, time(op.dur_ns.before), time(op.dur_ns.after)});
  }
  return out + markdown_table(table);
}

}  // namespace

std::string to_markdown(const Report& report) {
  std::string out = "### Preserve report\n\n";
  for (const std::string& sentence : report.sentences)
    out += fmt::format("**{}**\n\n", markdown_prose(sentence));
  for (const Headline& headline : report.headlines) {
    out += fmt::format("- {}: what would help most: {}\n", markdown_prose(headline.label),
                       markdown_prose(headline.advice));
  }
  if (!report.headlines.empty()) out += "\n";
  if (!report.recording.losses.empty()) {
    out += "Losses:\n\n";
    for (const Loss& loss : report.recording.losses)
      out += fmt::format("- {}\n", markdown_prose(describe(loss)));
    out += "\n";
  }
  if (!report.warnings.empty()) {
    out += "Warnings:\n\n";
    for (const Warning& warning : report.warnings)
      out += fmt::format("- {}, {}: {}\n", to_text(warning.severity), markdown_code(warning.source),
                         markdown_prose(warning.text));
    out += "\n";
  }
  if (!report.scenarios.empty()) {
    out += markdown_table(comparison_table(report.scenarios)) + plan_table(report.scenarios);
  }
  for (const Earlier& run : report.earlier) out += earlier(run);
  out += counters(report.counters) + time_table(report.time_use);
  out += fmt::format("Command {}, {} ranks", markdown_code(report.recording.command),
                     report.recording.ranks);
  for (const Machine& machine : report.recording.machines) {
    if (!machine.device.empty()) out += fmt::format(", {}", markdown_code(machine.device));
  }
  if (report.step) {
    out += fmt::format("; {} of {} decode steps folded, median {}", report.step->steps_used,
                       report.step->steps_total, format_duration(report.step->wall_ns));
  }
  return out + fmt::format("; preserve {}.\n", PRESERVE_VERSION);
}

}  // namespace preserve::report
