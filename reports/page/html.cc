// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <future>

#include "common/text.h"
#include "common/units.h"
#include "reports/page/charts.h"
#include "reports/page/parts.h"
#include "reports/render.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

double share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

std::string losses(const Recording& recording) {
  if (recording.losses.empty()) return "";
  HtmlTable table("Records that are not in the trace as they happened",
                  {"Source", "What happened", number("Rank"), number("Records")});
  for (const Loss& loss : recording.losses) {
    table.row({html_name(loss.source), escape_html(loss.kind),
               loss.rank ? fmt::format("{}", *loss.rank) : "all", grouped(loss.count)});
  }
  return "<div class=\"alert\" id=\"losses\"><b>Losses.</b>\n" + table.finish() + "</div>\n";
}

std::string environment(const Report& report) {
  const Recording& recording = report.recording;
  HtmlTable table("Where the recording was made", {"Fact", wide("Value")});
  table.row({"Command", html_name(recording.command)});
  for (const Machine& machine : recording.machines) {
    std::string text = escape_html(machine.host);
    if (!machine.device.empty()) text += fmt::format(": {}", escape_html(machine.device));
    if (machine.units)
      text += fmt::format(", {}", count_of(*machine.units, machine.gpu ? "SM" : "core"));
    if (machine.cache_bytes) text += fmt::format(", cache {}", format_size(*machine.cache_bytes));
    if (machine.memory_bandwidth_bytes_per_s) {
      text += fmt::format(", memory {}",
                          format_rate(static_cast<double>(*machine.memory_bandwidth_bytes_per_s)));
    }
    table.row({"Machine", text});
  }
  table.row({"Ranks, processes", fmt::format("{}, {}", recording.ranks, recording.processes)});
  if (report.step) {
    table.row({"Decode steps of the folded rank",
               fmt::format("{} found ({}), {} folded; median {} ± {} (MAD)",
                           report.step->steps_total, escape_html(report.step->source),
                           report.step->steps_used, format_duration(report.step->wall_ns),
                           format_duration(report.step->wall_mad_ns))});
  } else {
    table.row({"Decode steps", html_unknown(report.step.reason)});
  }
  table.row({"Versions",
             fmt::format(
                 "recorded by preserve {}, reported by {}",
                 escape_html(recording.tool_version.empty() ? "(unknown)" : recording.tool_version),
                 PRESERVE_VERSION)});
  const std::vector<NamedText>& variables = recording.environment;  // by name, then value
  for (size_t i = 0; i < variables.size();) {
    const std::string& name = variables[i].name;
    std::string values = html_name(variables[i].value);
    while (++i < variables.size() && variables[i].name == name) {
      values += ", " + html_name(variables[i].value);  // other processes'
    }
    table.row({html_name(name), values});
  }
  return html_section("environment", "Environment") +
         html_folded("Machine, command and variables", table.finish());
}

std::string comparison(const Report& report) {
  if (report.scenarios.empty()) {
    return html_section("comparison", "Baseline against prefetch") +
           "<p>Nothing was planned or measured: no schedule was given. preserve-tune makes one, "
           "preserve-replay measures it.</p>\n";
  }
  std::string out = html_section("comparison", "Baseline against prefetch") +
                    html_table(comparison_table(report.scenarios));
  for (const Scenario& scenario : report.scenarios) out += html_measured(scenario);
  return out + html_how(
                   "Each arm is one variant of the step, timed in interleaved pairs with the "
                   "baseline; its speed-up is the median of the pairs' ratios and the brackets "
                   "hold its confidence interval. FAST or SLOW means that the whole interval lies "
                   "more than 0.5 % from 1, SAME that it lies within, AMBG that the samples do not "
                   "decide.");
}

// Several measurements of one schedule share its plan: the place of the first of them.
size_t first_of_schedule(const Report& report, size_t index) {
  const auto first = std::ranges::find(report.scenarios, report.scenarios[index].schedule_sha256,
                                       &Scenario::schedule_sha256);
  return static_cast<size_t>(first - report.scenarios.begin());
}

std::string legend(std::initializer_list<const char*> kinds) {
  std::string out = "<ul class=\"legend\">";
  for (const char* kind : kinds) {
    out += fmt::format(
        "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect width=\"12\" height=\"12\" "
        "class=\"{}\"/></svg>{}</li>",
        kind_class(kind), escape_html(kind));
  }
  return out + "</ul>\n";
}

std::string time_classes(const TimeUse& use) {
  HtmlTable table(
      fmt::format("Time by class ({}), mean per step; the classes add up to the wall time",
                  use.scope),
      {"Rank", "Class", number("Time"), number("Share of wall"), number("Busy"),
       number("Operators")});
  for (const RankTime& rank : use.ranks) {
    const int64_t steps = std::max<int64_t>(rank.steps, 1);
    const std::string name = escape_html(rank.name());
    for (size_t c = 0; c < kTimeClasses.size(); ++c) {
      const ClassTime& time = rank.classes[c];
      if (time.busy_ns == 0 && time.operators == 0) continue;
      table.row({name, escape_html(kTimeClasses[c]), format_duration(time.exclusive_ns / steps),
                 html_percent(share(time.exclusive_ns, rank.wall_ns)),
                 format_duration(time.busy_ns / steps),
                 fmt::format("{:.4g}",
                             static_cast<double>(time.operators) / static_cast<double>(steps))});
    }
    table.row({name, "<span class=\"strong\">wall</span>", format_duration(rank.wall_ns / steps),
               html_percent(1), "", ""});
  }
  return html_section("time", "Where the step's time goes") + class_chart(use) +
         legend({"compute", "copy", "collective", "p2p", "other", "[unattributed]"}) +
         table.finish() +
         html_how(
             "Each moment belongs to one class: compute before copy before collective, so a "
             "collective that runs during compute costs nothing here and shows under Busy alone. "
             "Only time in class collective can hide prefetches; [unattributed] is time in which "
             "nothing recorded ran.");
}

// Each is some 400 bytes that a browser opens before it draws; a longer step is thinned.
constexpr size_t kEmbeddedOperators = 25'000, kThinnedTo = 10'000;

bool embeds_operators(const Report& report) {
  return !report.step || report.step->ops.size() <= kEmbeddedOperators;
}

std::string timeline(const Report& report) {
  std::string out = html_section("timeline", "Timeline of one step");
  if (!report.step) return out + fmt::format("<p>{}</p>\n", escape_html(report.step.reason));
  const TimeRange near = close_up(report);
  out += "<div id=\"timeline-live\"></div>\n<div id=\"timeline-still\">\n";
  out += timeline_chart(report, 0, report.step->wall_ns);
  if (near.from_ns > 0 || near.to_ns < report.step->wall_ns) {
    out += "<h3>Close-up around the most valuable window</h3>\n" +
           timeline_chart(report, near.from_ns, near.to_ns);
  }
  out += "</div>\n" + legend({"compute", "copy", "collective", "p2p", "other", "prefetch"});
  if (report.step->ops.size() > kChartElements) {
    out +=
        "<p>The step has more operators than can be drawn at once: where they crowd, only the "
        "longest shows.</p>\n";
  }
  if (!embeds_operators(report)) {
    out += fmt::format(
        "<p>Of its {} operators this page holds {} to zoom into: the longest, and those at both "
        "ends of the prefetches that save most. All are in the JSON report.</p>\n",
        grouped(static_cast<long long>(report.step->ops.size())),
        grouped(static_cast<long long>(kThinnedTo)));
  }
  return out + html_how(fmt::format("Bars begin at the median start and last the median length "
                                    "over {} of rank {}, so waits that come and go leave "
                                    "gaps; resting the pointer on a bar shows its name, length and "
                                    "bytes. A prefetch bar lies under the collective that hides it "
                                    "and is as long as its share of that window, the stand-in link "
                                    "included, which the recording does not have.",
                                    count_of(report.step->steps_used, "step"), report.step->rank));
}

// Links of the verdict cards lead to the first scenario of their schedule.
std::string why(const Report& report) {
  if (report.scenarios.empty()) return "";
  std::string out = html_section("why", "Why");
  size_t headline = 0;
  for (size_t i = 0; i < report.scenarios.size(); ++i) {
    const size_t first = first_of_schedule(report, i);
    if (first == i) out += fmt::format("<a id=\"why-{}\"></a>", headline++);
    out += html_why(report.scenarios[i], first, first == i);
  }
  return out +
         html_how(
             "From one grey bar to the next the bars add up: green makes the step shorter, "
             "orange longer. The first chart is measured, the second the model's: what longer "
             "windows or more cache would still bring.");
}

std::string plans(const Report& report) {
  if (report.scenarios.empty()) return "";
  std::string out = html_section("plan", "The plan");
  for (size_t i = 0; i < report.scenarios.size(); ++i) {
    if (first_of_schedule(report, i) == i) out += html_plan(report.scenarios[i], i);
  }
  return out + html_how(
                   "In the chart each column is a window: its outline is what fits into the "
                   "window, the filled part what is planned. \"Limited by\" says what stops a "
                   "window from doing more, and the worth of 1 MiB more is the gain per step if "
                   "that window were longer by one MiB.");
}

std::string cache(const Report& report) {
  if (report.scenarios.empty()) return "";
  std::string out = html_section("cache", "Cache occupancy");
  for (size_t i = 0; i < report.scenarios.size(); ++i) {
    const Scenario& scenario = report.scenarios[i];
    if (first_of_schedule(report, i) != i) continue;
    out += fmt::format("<h3>Planned for {}</h3>\n", escape_html(scenario.label)) +
           cache_chart(*report.step, scenario.plan);
    HtmlTable table("Cache use of the plan",
                    {number("Budget"), number("Planned peak"), number("Prefetched per step")});
    table.row({format_size(scenario.plan.budget_bytes), format_size(scenario.plan.cache_peak_bytes),
               format_size(scenario.plan.prefetched_bytes)});
    out += table.finish();
  }
  return out + html_how(
                   "The area is what was prefetched and not yet read; it rises under a collective "
                   "and falls when its reader has run. It must stay below the dashed line, the "
                   "calibrated budget; it is planned, not measured.");
}

std::string top_operators(const TimeUse& use) {
  HtmlTable table(fmt::format("Operators by total time ({}, all ranks)", use.scope),
                  {"Operator", "Kind", number("Names"), number("Share"), number("Total"),
                   number("Count"), number("Mean"), number("Least"), number("Most")});
  for (const OperatorTotal& total : use.top) {
    table.row({html_name(total.name), escape_html(total.kind), grouped(total.names),
               html_percent(share(total.total_ns, use.total_ns)), format_duration(total.total_ns),
               grouped(total.count),
               format_duration(total.total_ns / std::max<int64_t>(1, total.count)),
               format_duration(total.min_ns), format_duration(total.max_ns)});
  }
  return html_section("operators", "Top operators") + operator_chart(use) + table.finish() +
         html_how(
             "Operators whose names differ in layer numbers alone are one row, [others] is what is "
             "not listed, so the table adds up to all operator time. Prefetching can shorten "
             "compute that reads weights or KV, never a collective.");
}

std::string counters(const std::vector<CounterTotal>& totals) {
  if (totals.empty()) return "";
  return html_section("counters", "Hardware counters") + html_table(counter_table(totals)) +
         html_how(
             "Counted by the GPU while kernels ran one by one. Far less DRAM read than named bytes "
             "means that they came from the cache already; far more means that the kernel reads "
             "what has no name.");
}

std::string collectives(const TimeUse& use) {
  std::string out = html_section("collectives", "Collectives");
  if (use.collectives.empty()) {
    return out + "<p>No collective was recorded in scope: there is no window to prefetch in.</p>\n";
  }
  HtmlTable table(
      fmt::format("Collectives by function and size ({}, all ranks)", use.scope),
      {"Function", number("Size"), "Type", number("Ranks"), number("Count"), number("p10"),
       number("Median"), number("p90"), number("Most"), number("Total")});
  for (const CollectiveGroup& group : use.collectives) {
    table.row({html_name(group.function), group.bytes ? format_size(*group.bytes) : "unknown",
               html_name(group.dtype), group.ranks ? fmt::format("{}", *group.ranks) : "unknown",
               grouped(group.count), format_duration(group.p10_ns),
               format_duration(group.median_ns), format_duration(group.p90_ns),
               format_duration(group.max_ns), format_duration(group.total_ns)});
  }
  return out + collective_chart(use) + table.finish() +
         html_how(
             "A collective's length is the time inside the call, so on a rank that arrives early "
             "it includes waiting for the others. The longer and the steadier it is, the more can "
             "be prefetched under it.");
}

std::string raw_counts(const Report& report) {
  HtmlTable rows("Rows per table of the trace", {"Table", number("Rows")});
  for (const auto& [table, count] : report.recording.rows)
    rows.row({html_name(table), grouped(count)});
  HtmlTable inputs("Files that this report was made from",
                   {"File", "Kind", number("Size"), "SHA-256"});
  for (const InputFile& file : report.inputs) {
    inputs.row({html_name(clean(file.path.string())), to_text(file.kind), format_size(file.bytes),
                html_name(file.sha256)});
  }
  return html_section("counts", "Raw counts") + rows.finish() + inputs.finish() +
         html_how(
             "Counts are of the whole recording, not of the steps in scope. The digests tie "
             "schedule and replay to this very trace.");
}

}  // namespace

std::string to_html(const Report& report) {
  // Of a long step as much work as the rest of the page.
  std::future<std::string> data = std::async([&report] {
    return to_json(embeds_operators(report) ? report : thinned(report, kThinnedTo), -1);
  });
  const std::string body = html_headlines(report) + losses(report.recording) +
                           html_warnings(report) + timeline(report) + why(report) +
                           comparison(report) + counters(report.counters) + plans(report) +
                           cache(report) + html_earlier(report) + time_classes(report.time_use) +
                           html_ranks(report.time_use) + top_operators(report.time_use) +
                           collectives(report.time_use) + environment(report) + raw_counts(report);
  return html_page("Preserve report", body, data.get());
}

}  // namespace preserve::report
