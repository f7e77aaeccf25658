// SPDX-License-Identifier: Apache-2.0
#include "reports/model/parts.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/units.h"

namespace preserve::report {
namespace {

// One measure alone is not worth naming when it closes less than this part of the way to all hot.
constexpr int64_t kLittle = 10;

struct Advice {
  std::string text;
  int64_t worth_ns = 0;
};

const Window* dearest(const PlanView& plan) {
  const auto window = std::ranges::max_element(plan.windows, {}, &Window::shadow_price_ns_per_mib);
  if (window == plan.windows.end() || window->shadow_price_ns_per_mib <= 0) return nullptr;
  return &*window;
}

std::string per_step(double dur_ns) {
  return fmt::format("{} per step", format_duration(dur_ns));
}

Advice longer_windows(const PlanView& plan) {
  return {fmt::format("Longer windows: with collectives of any length and this cache a step could "
                      "last {}.",
                      format_duration(plan.cache_limited_step_ns)),
          plan.prefetch_step_ns - plan.cache_limited_step_ns};
}

Advice larger_cache(const PlanView& plan) {
  return {
      fmt::format("More cache: with a cache of any size and these windows a step could last {}.",
                  format_duration(plan.window_limited_step_ns)),
      plan.prefetch_step_ns - plan.window_limited_step_ns};
}

// What would help against each bar that makes the measured step longer.
struct Remedy {
  std::string_view bar, advice;
};
constexpr Remedy kRemedies[] = {
    {"late",
     "Earlier fetching: bytes that were missing when their window ended cost the most; let "
     "preserve-tune --measure try other ways to issue prefetches."},
    {"evicted",
     "A smaller budget: bytes were fetched in time and had left the cache when their readers ran; "
     "plan with a smaller --budget, or let preserve-tune --measure try other plans."},
    {"read no faster",
     "A better device model: even with everything cached the readers do not save what was "
     "predicted; calibrate again, and let preserve-tune --measure try other plans."},
    {"evicted or read no faster",
     "A better device model: bytes were fetched in time and their readers saved less than "
     "predicted; calibrate again, and let preserve-tune --measure try other plans."},
    {"slow-down of collectives",
     "Gentler fetching: collectives that carry prefetches got longer; let preserve-tune --measure "
     "try other ways to issue prefetches."},
};

bool is_loss(const WhyBar& bar) {
  return bar.part == "measured" && !bar.total && bar.dur_ns > 0;
}

// Of measured bars only where the scenario is measured well enough to believe them.
Advice best_advice(const Scenario& scenario, const std::string& verdict) {
  if (verdict == "AMBG") {
    return {scenario.measured->busy
                ? "A quiet machine: ranks lost their cores while the step was measured."
                : "More samples on a quiet machine: the interval reaches over 1, or across the "
                  "tolerance of 0.5 %.",
            0};
  }
  std::vector<Advice> candidates;
  for (const WhyBar& bar : scenario.why) {
    for (const Remedy& remedy : kRemedies) {
      if (!is_loss(bar) || bar.name != remedy.bar) continue;
      candidates.push_back({std::string(remedy.advice), bar.dur_ns});
    }
  }
  const auto worth_more = [](const Advice& a, const Advice& b) { return a.worth_ns < b.worth_ns; };
  if (verdict == "SLOW") {
    const std::string without = "Not applying this plan: the program is faster without it.";
    if (candidates.empty()) return {without + " preserve-tune --measure tries other plans.", 0};
    Advice best = *std::ranges::max_element(candidates, worth_more);
    return {without + " " + best.text, best.worth_ns};
  }
  candidates.push_back(longer_windows(scenario.plan));
  candidates.push_back(larger_cache(scenario.plan));
  Advice best = *std::ranges::max_element(candidates, worth_more);
  const int64_t to_all_hot_ns = scenario.plan.prefetch_step_ns - scenario.plan.all_hot_step_ns;
  if (best.worth_ns > to_all_hot_ns / kLittle) return best;
  if (to_all_hot_ns <= 0) return {"Nothing: the step is at its bound.", 0};
  return {fmt::format("Longer windows together with more cache: each alone brings at most {}.",
                      per_step(static_cast<double>(std::max<int64_t>(0, best.worth_ns)))),
          to_all_hot_ns};
}

// Shadow prices in words: what one more MiB is worth where the plan is short of it.
std::string prices_of(const PlanView& plan) {
  std::string text;
  if (plan.cache_shadow_price_ns_per_mib > 0) {
    text = fmt::format("One more MiB of cache is worth {}",
                       per_step(plan.cache_shadow_price_ns_per_mib));
  }
  if (const Window* window = dearest(plan)) {
    text += fmt::format("{} more MiB under {} ({}) is worth {}", text.empty() ? "One" : "; one",
                        window->name, window->ordinal, per_step(window->shadow_price_ns_per_mib));
  }
  if (!text.empty()) return text + ".";
  if (plan.verdict == "do-nothing") return "";  // nothing to be short of
  return "One more MiB, of cache or under any window, is worth nothing to this plan.";
}

// What a slow step loses most by.
std::string loss_of(const Scenario& scenario) {
  const WhyBar* most = nullptr;
  for (const WhyBar& bar : scenario.why) {
    if (is_loss(bar) && (most == nullptr || bar.dur_ns > most->dur_ns)) most = &bar;
  }
  if (most == nullptr) return "";
  return fmt::format(" Most is lost by \"{}\" ({}): {}.", most->name, most->meaning,
                     per_step(static_cast<double>(most->dur_ns)));
}

std::string reason_of(const Scenario& scenario, const std::string& verdict) {
  if (scenario.plan.verdict == "do-nothing") {
    return "";  // the sentence holds it
  }
  const std::string plan =
      fmt::format("{} fetched per step under {} of {} windows; predicted: {}.",
                  format_size(scenario.plan.prefetched_bytes),
                  std::ranges::count_if(scenario.plan.windows,
                                        [](const Window& w) { return w.used_bytes > 0; }),
                  scenario.plan.windows.size(), describe_speedup(scenario.plan.speedup));
  return verdict == "SLOW" ? plan + loss_of(scenario) : plan;
}

void add_marks(const PlanView& plan, Headline& headline) {
  const auto bound = [&](const char* name, int64_t step_ns) {
    if (step_ns <= 0) return;
    headline.marks.push_back(
        {name, static_cast<double>(plan.baseline_step_ns) / static_cast<double>(step_ns)});
  };
  bound("bound: these windows", plan.window_limited_step_ns);
  bound("bound: this cache", plan.cache_limited_step_ns);
  bound("bound: all hot", plan.all_hot_step_ns);
}

int rank_of(const Scenario& scenario) {
  if (!scenario.measured || !scenario.measured->speedup) return 0;
  return scenario.measured->applied ? 2 : 1;
}

Headline headline_of(const std::vector<const Scenario*>& group) {
  const Scenario& best = **std::ranges::max_element(
      group, [](const Scenario* a, const Scenario* b) { return rank_of(*a) < rank_of(*b); });
  Headline headline;
  headline.label = best.label;
  headline.basis = rank_of(best) == 2 ? "applied" : rank_of(best) == 1 ? "replayed" : "predicted";
  headline.verdict = best.plan.verdict == "do-nothing" ? "do-nothing"
                     : rank_of(best) > 0               ? best.measured->verdict
                                                       : "predicted";
  headline.sentence = best.sentence;
  headline.reason = reason_of(best, headline.verdict);
  headline.prices = prices_of(best.plan);
  const Advice advice = best_advice(best, headline.verdict);
  headline.advice = advice.text;
  if (advice.worth_ns > 0) headline.advice_worth_ns = advice.worth_ns;
  headline.marks.push_back({"predicted", best.plan.speedup});
  for (const Scenario* scenario : group) {
    if (rank_of(*scenario) == 0) continue;
    const Interval& speedup = *scenario->measured->speedup;
    headline.marks.push_back({scenario->measured->applied ? "applied" : "replayed",
                              speedup.estimate, speedup.low, speedup.high});
  }
  add_marks(best.plan, headline);
  return headline;
}

}  // namespace

std::vector<Headline> headlines(const std::vector<Scenario>& scenarios) {
  std::vector<Headline> out;
  std::vector<bool> told(scenarios.size(), false);
  for (size_t i = 0; i < scenarios.size(); ++i) {
    if (told[i]) continue;
    std::vector<const Scenario*> group;
    for (size_t j = i; j < scenarios.size(); ++j) {
      if (scenarios[j].schedule_sha256 != scenarios[i].schedule_sha256) continue;
      told[j] = true;
      group.push_back(&scenarios[j]);
    }
    out.push_back(headline_of(group));
  }
  return out;
}

}  // namespace preserve::report
