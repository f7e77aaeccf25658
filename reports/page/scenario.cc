// SPDX-License-Identifier: Apache-2.0

#include <algorithm>

#include "common/units.h"
#include "db/replay_result.h"
#include "reports/model/gains.h"
#include "reports/page/charts.h"
#include "reports/page/parts.h"
#include "reports/text.h"

namespace preserve::report {
namespace {

std::string interval_of_time(const Known<Interval>& step_ns) {
  if (!step_ns) return html_unknown(step_ns.reason);
  if (step_ns->low == step_ns->high) return format_duration(step_ns->estimate);  // too few samples
  return fmt::format("{} [{}, {}]", format_duration(step_ns->estimate),
                     format_duration(step_ns->low), format_duration(step_ns->high));
}

std::string interval_of_speedup(const Known<Interval>& speedup) {
  return speedup ? speedup_text(*speedup) : html_unknown(speedup.reason);
}

std::string cell(const Known<double>& value, std::string (*write)(double)) {
  return value ? write(*value) : html_unknown(value.reason);
}

std::string discarded_text(const Arm& arm) {
  std::string text;
  for (const auto& [reason, count] : arm.discarded) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", grouped(count), reason);
  }
  return text.empty() ? "none" : escape_html(text);
}

std::string arms_table(const Measured& measured) {
  HtmlTable table("Arms: every variant of the step that was measured",
                  {"Arm", number("Step, median [interval]"), number("Speed-up over baseline"),
                   number("Samples"), number("Pairs"), wide("Discarded")});
  for (const Arm& arm : measured.arms) {
    const std::string speedup = arm.name == "baseline" ? "" : interval_of_speedup(arm.speedup);
    table.row({html_name(arm.name), interval_of_time(arm.step_ns), speedup, grouped(arm.samples),
               arm.name == "baseline" ? "" : grouped(arm.pairs), discarded_text(arm)});
  }
  return table.finish();
}

std::string trust_table(const Scenario& scenario) {
  const Measured& measured = *scenario.measured;
  HtmlTable table("How far prediction and replay can be trusted",
                  {"Metric", number("Value"), wide("Meaning")});
  table.row({"Predicted speed-up", format_ratio(scenario.plan.speedup),
             "by the device model, before the replay"});
  table.row({"Measured speed-up", interval_of_speedup(measured.speedup),
             "median of paired ratios, with interval"});
  table.row({"Prediction error", cell(measured.prediction_error, signed_percent),
             "predicted over measured, less one"});
  if (measured.fidelity) {
    const Fidelity& fidelity = *measured.fidelity;
    table.row({"Fidelity of the step", format_ratio(fidelity.step),
               "replayed baseline over recorded step; 1 is a perfect copy"});
    table.row({"Fidelity of operators", cell(fidelity.operators, format_ratio),
               fidelity.operators ? fmt::format("planned rank: median of operators that are not "
                                                "collectives; four in five lie in {} to {}",
                                                format_ratio(*fidelity.operators_p10),
                                                format_ratio(*fidelity.operators_p90))
                                  : ""});
  } else {
    table.row({"Fidelity", html_unknown(measured.fidelity.reason), ""});
  }
  table.row(
      {"Collective slowdown", cell(measured.collective_slowdown, format_ratio),
       "planned rank: time of the collectives that carry prefetches, prefetch arm over baseline"});
  return table.finish();
}

// Per step: what each kind of operator gained between the arms, next to what was predicted.
std::string gain_table(const Scenario& scenario) {
  const std::vector<OperatorGain> gains = operator_gains(scenario);
  if (gains.empty()) return "";
  HtmlTable table(
      "Where the gain is: time per step on one rank, by operator over all layers",
      {"Operator", "Class", number("Count"), number("Recorded"), number("Baseline"),
       number("Prefetch"), number("Ratio"), number("Saved"), number("Predicted"), number("Kept")});
  constexpr size_t kRows = 200;  // every operator is in the CSV
  for (size_t i = 0; i < std::min(kRows, gains.size()); ++i) {
    const OperatorGain& gain = gains[i];
    const auto ratio = [](int64_t part, int64_t whole) {
      return static_cast<double>(part) / static_cast<double>(whole);
    };
    table.row({html_name(gain.name), escape_html(gain.kind), grouped(gain.operators),
               format_duration(gain.recorded_ns), format_duration(gain.baseline_ns),
               format_duration(gain.prefetch_ns),
               gain.baseline_ns > 0 ? format_ratio(ratio(gain.prefetch_ns, gain.baseline_ns)) : "",
               format_duration(gain.saved_ns()), format_duration(gain.predicted_saved_ns),
               gain.predicted_saved_ns > 0
                   ? html_percent(ratio(gain.saved_ns(), gain.predicted_saved_ns))
                   : ""});
  }
  return table.finish() +
         html_how(
             "A ratio below 1 is faster with the plan; collectives above 1 are what fetching costs "
             "them. Predicted is what the plan was to save of each operator, kept the share of "
             "that which was saved.");
}

std::string bounds_table(const PlanView& plan) {
  HtmlTable table("What the model predicts, and what no plan can beat",
                  {"Step", number("Time"), number("Speed-up"), wide("Meaning")});
  const auto row = [&](const char* name, int64_t step_ns, const char* meaning) {
    const std::string speedup = step_ns > 0
                                    ? format_ratio(static_cast<double>(plan.baseline_step_ns) /
                                                   static_cast<double>(step_ns))
                                    : "";
    table.row({name, format_duration(step_ns), speedup, meaning});
  };
  row("Baseline", plan.baseline_step_ns, "as recorded, with the stand-in link where there is one");
  row("This plan", plan.prefetch_step_ns, "with the prefetches below");
  row("Window-limited", plan.window_limited_step_ns, "bound: cache of any size, these windows");
  row("Cache-limited", plan.cache_limited_step_ns, "bound: this cache, windows of any length");
  row("All hot", plan.all_hot_step_ns, "bound: everything is in the cache");
  return table.finish();
}

std::string prefetch_list(const Window& window) {
  constexpr size_t kListed = 6;
  std::string text;
  for (size_t i = 0; i < window.prefetches.size() && i < kListed; ++i) {
    const Prefetch& p = window.prefetches[i];
    text += fmt::format("{}{} of {} for {}. {}{}", i > 0 ? "<br>" : "", format_size(p.length_bytes),
                        html_name(p.tensor), p.consumer_ordinal, html_name(p.consumer),
                        p.next_step ? " (next step)" : "");
  }
  if (window.prefetches.size() > kListed) {
    text += fmt::format("<br>and {} more", window.prefetches.size() - kListed);
  }
  return text.empty() ? "nothing" : text;
}

std::string windows_table(const PlanView& plan, size_t index) {
  if (plan.windows.empty()) return "<p>Nothing is prefetched under any collective.</p>\n";
  HtmlTable table(fmt::format("{} windows, {} prefetched per step: what is prefetched under which "
                              "collective, for whom, and what limits it",
                              plan.windows.size(), format_size(plan.prefetched_bytes)),
                  {"Window", number("Usable"), number("Fits"), number("Planned"), number("Saves"),
                   "Limited by", number("Worth of 1 MiB more"), wide("Prefetches")});
  const size_t rows = std::min(plan.windows.size(), kWindowRows);
  for (size_t i = 0; i < rows; ++i) {
    const Window& w = plan.windows[i];
    table.row({fmt::format("{}. {}", w.ordinal, html_name(w.name)), format_duration(w.usable_ns),
               format_size(w.capacity_bytes), format_size(w.used_bytes),
               format_duration(w.predicted_saved_ns), escape_html(w.binds),
               format_duration(w.shadow_price_ns_per_mib), prefetch_list(w)},
              window_id(index, w.ordinal));
  }
  return table.finish() + html_more(plan.windows.size(), rows, "windows");
}

std::string tried_table(const PlanView& plan) {
  if (plan.tried.empty()) return {};
  HtmlTable table("Plans that were measured before this one was chosen",
                  {"Issued by", "Strategy", number("Prefetched"), number("Predicted"),
                   number("Measured speed-up"), number("Pairs")});
  for (const TriedPlan& tried : plan.tried) {
    table.row({escape_html(tried.issue) + (tried.chosen ? " (chosen)" : ""),
               escape_html(tried.strategy), format_size(tried.prefetched_bytes),
               format_ratio(tried.predicted_speedup), interval_of_speedup(tried.speedup),
               std::to_string(tried.pairs)});
  }
  return table.finish();
}

}  // namespace

std::string html_measured(const Scenario& scenario) {
  std::string out = fmt::format("<h3>Measured with {}</h3>\n", escape_html(scenario.label));
  if (scenario.link_latency_ns > 0) {
    out += fmt::format(
        "<p>The link is a stand-in: each collective is followed by {} of waiting, in place of a "
        "network that this machine does not have.</p>\n",
        short_duration(scenario.link_latency_ns));
  }
  if (!scenario.measured) {
    return out +
           fmt::format(
               "<p>Not measured: {}. Run preserve-replay on this schedule to learn whether the "
               "prediction holds.</p>\n",
               escape_html(scenario.measured.reason));
  }
  out += arms_chart(*scenario.measured);
  out += arms_table(*scenario.measured);
  out += distribution_chart(*scenario.measured);
  out += drift_chart(*scenario.measured);
  out += trust_table(scenario);
  out += gain_table(scenario);
  HtmlTable facts("What the file says about itself", {"Fact", wide("Value")});
  for (const NamedText& fact : scenario.measured->facts)
    facts.row({html_name(fact.name), html_name(fact.value)});
  return out + html_folded("Facts of the measurement", facts.finish());
}

std::string html_plan(const Scenario& scenario, size_t index) {
  const PlanView& plan = scenario.plan;
  std::string out = fmt::format("<h3>Plan for {}</h3>\n", escape_html(scenario.label));
  out += fmt::format(
      "<p>Strategy {}, verdict <span class=\"strong\">{}</span>. Device {}; bytes are fetched by "
      "{} on the {} side, in chunks of {}; cache budget {}, planned peak {}; one more MiB of cache "
      "is worth {} per step.</p>\n",
      html_name(plan.strategy), escape_html(plan.verdict), html_name(plan.device),
      html_name(plan.method), escape_html(plan.placement), format_size(plan.chunk_bytes),
      format_size(plan.budget_bytes), format_size(plan.cache_peak_bytes),
      format_duration(plan.cache_shadow_price_ns_per_mib));
  if (!plan.reasons.empty()) {
    out += "<ul>";
    for (const std::string& reason : plan.reasons)
      out += fmt::format("<li>{}</li>", escape_html(reason));
    out += "</ul>\n";
  }
  return out + tried_table(plan) + window_chart(plan) + bounds_table(plan) +
         windows_table(plan, index);
}

}  // namespace preserve::report
