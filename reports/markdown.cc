// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "common/units.h"
#include "reports/render.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

// Prose from files in a code span: a comment must not ping people, link issues or carry markup.
std::string code(std::string_view text) {
  return markdown_code(text);
}
std::string time(int64_t dur_ns) {
  return format_duration(dur_ns);
}
std::string size(int64_t size_bytes) {
  return format_size(size_bytes);
}

std::string arm_time(const Measured& measured, std::string_view name) {
  const auto found = std::find_if(measured.arms.begin(), measured.arms.end(),
                                  [&](const Arm& arm) { return arm.name == name; });
  if (found == measured.arms.end() || !found->step_ns) return "unknown";
  return format_duration(found->step_ns->estimate);
}

std::string percent(const Known<double>& value) {
  return value ? fmt::format("{:+.1f} %", *value * 100) : "unknown";
}

void add_scenarios(std::string& out, const std::vector<Scenario>& scenarios) {
  out +=
      "| collectives | verdict | baseline | prefetch | measured speed-up | predicted | prediction "
      "error | fidelity |\n"
      "|---|---|---:|---:|---:|---:|---:|---:|\n";
  for (const Scenario& s : scenarios) {
    if (!s.measured) {
      out += fmt::format("| {} | not measured | | | | {} | | |\n", markdown_prose(s.label),
                         format_ratio(s.plan.speedup));
      continue;
    }
    const Measured& m = *s.measured;
    const std::string speedup =
        m.speedup ? fmt::format("{} \\[{}, {}\\]", format_ratio(m.speedup->estimate),
                                format_ratio(m.speedup->low), format_ratio(m.speedup->high))
                  : "unknown";
    out += fmt::format("| {} | **{}** | {} | {} | {} | {} | {} | {} |\n", markdown_prose(s.label),
                       m.verdict.empty() ? "none" : m.verdict, arm_time(m, "baseline"),
                       arm_time(m, "prefetch"), speedup, format_ratio(s.plan.speedup),
                       percent(m.prediction_error),
                       m.fidelity ? format_ratio(m.fidelity->step) : "unknown");
  }
  out += "\n";
}

void add_plans(std::string& out, const std::vector<Scenario>& scenarios) {
  out +=
      "| plan for | strategy | verdict | prefetched per step | cache peak / budget | bounds: all "
      "hot, window, cache |\n"
      "|---|---|---|---:|---:|---|\n";
  for (const Scenario& s : scenarios) {
    out += fmt::format("| {} | {} | {} | {} | {} / {} | {}, {}, {} |\n", markdown_prose(s.label),
                       code(s.plan.strategy), markdown_prose(s.plan.verdict),
                       size(s.plan.prefetched_bytes), size(s.plan.cache_peak_bytes),
                       size(s.plan.budget_bytes), time(s.plan.all_hot_step_ns),
                       time(s.plan.window_limited_step_ns), time(s.plan.cache_limited_step_ns));
  }
  out += "\n";
}

void add_time(std::string& out, const TimeUse& use) {
  out += fmt::format("Time by class ({}), share of wall:\n\n| rank |", use.scope);
  for (const char* name : kTimeClasses) out += fmt::format(" {} |", markdown_prose(name));
  out += " wall per step |\n|---|";
  for (size_t c = 0; c <= kTimeClasses.size(); ++c) out += "---:|";
  out += "\n";
  constexpr size_t kRanks = 16;  // a comment is not the place for more
  for (size_t r = 0; r < std::min(use.ranks.size(), kRanks); ++r) {
    const RankTime& rank = use.ranks[r];
    out += fmt::format("| {} |", rank.rank ? fmt::format("{}", *rank.rank) : code(rank.process));
    for (const ClassTime& time_class : rank.classes) {
      const double share = rank.wall_ns > 0 ? static_cast<double>(time_class.exclusive_ns) /
                                                  static_cast<double>(rank.wall_ns)
                                            : 0;
      out += fmt::format(" {:.1f} % |", share * 100);
    }
    out += fmt::format(" {} |\n", time(rank.wall_ns / std::max<int64_t>(1, rank.steps)));
  }
  if (use.ranks.size() > kRanks)
    out += fmt::format("\n{} more ranks are in the JSON report.\n", use.ranks.size() - kRanks);
  out += "\n";
}

void add_counters(std::string& out, const std::vector<CounterTotal>& totals) {
  if (totals.empty()) return;
  out +=
      "Bytes per kernel:\n\n| kernel | in range | count | DRAM read | DRAM written | L2 read | L2 "
      "written | named bytes read |\n|---|---|---:|---:|---:|---:|---:|---:|\n";
  constexpr size_t kRows = 20;  // a comment is not the place for more
  for (size_t i = 0; i < std::min(totals.size(), kRows); ++i) {
    const CounterTotal& total = totals[i];
    out += fmt::format("| {} | {} | {} |", code(total.name),
                       total.range.empty() ? "" : code(total.range), total.count);
    for (const auto& bytes : total.metrics) {
      out += fmt::format(" {} |", bytes ? size(bytes->mean) : "unknown");
    }
    out +=
        fmt::format(" {} |\n", total.named_read_bytes ? size(*total.named_read_bytes) : "unknown");
  }
  out += "\n";
}

}  // namespace

std::string to_markdown(const Report& report) {
  std::string out = "### Preserve report\n\n";
  for (const std::string& sentence : report.sentences)
    out += fmt::format("**{}**\n\n", markdown_prose(sentence));
  if (!report.recording.losses.empty()) {
    out += "Losses:\n\n";
    for (const Loss& loss : report.recording.losses)
      out += fmt::format("- {}\n", markdown_prose(describe(loss)));
    out += "\n";
  }
  if (!report.warnings.empty()) {
    out += "Warnings:\n\n";
    for (const Warning& warning : report.warnings)
      out += fmt::format("- {}: {}\n", code(warning.source), markdown_prose(warning.text));
    out += "\n";
  }
  if (!report.scenarios.empty()) {
    add_scenarios(out, report.scenarios);
    add_plans(out, report.scenarios);
  }
  add_counters(out, report.counters);
  add_time(out, report.time_use);
  out +=
      fmt::format("Command {}, {} ranks", code(report.recording.command), report.recording.ranks);
  for (const Machine& machine : report.recording.machines) {
    if (!machine.device.empty()) out += fmt::format(", {}", code(machine.device));
  }
  if (report.step) {
    out += fmt::format("; {} of {} decode steps folded, median {}", report.step->steps_used,
                       report.step->steps_total, time(report.step->wall_ns));
  }
  return out + fmt::format("; preserve {}.\n", PRESERVE_VERSION);
}

}  // namespace preserve::report
