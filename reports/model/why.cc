// SPDX-License-Identifier: Apache-2.0
#include "reports/model/parts.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "reports/table.h"

namespace preserve::report {
namespace {

constexpr size_t kNamedWindows = 5;  // behind one bar

struct Weighted {
  int64_t weight = 0;
  int32_t window = 0;
};

std::vector<int32_t> heaviest(std::vector<Weighted> windows) {
  std::erase_if(windows, [](const Weighted& w) { return w.weight <= 0; });
  std::ranges::stable_sort(windows, std::ranges::greater(), &Weighted::weight);
  std::vector<int32_t> ordinals;
  for (size_t i = 0; i < std::min(kNamedWindows, windows.size()); ++i) {
    ordinals.push_back(windows[i].window);
  }
  return ordinals;
}

template <typename Weight>
std::vector<int32_t> windows_by(const PlanView& plan, Weight weight) {
  std::vector<Weighted> windows;
  windows.reserve(plan.windows.size());
  for (const Window& window : plan.windows) windows.push_back({weight(window), window.ordinal});
  return heaviest(std::move(windows));
}

// Bars of one part, each starting where the one before ended.
class Way {
 public:
  Way(std::string part, std::vector<WhyBar>& bars) : part_(std::move(part)), bars_(bars) {}

  void total(const char* name, const char* meaning, int64_t dur_ns) {
    bars_.push_back({part_, name, meaning, true, dur_ns});
    reached_ns_ = dur_ns;
  }
  void change(const char* name, const char* meaning, int64_t change_ns,
              std::vector<int32_t> windows = {}) {
    if (change_ns == 0) return;
    bars_.push_back({part_, name, meaning, false, change_ns, std::move(windows)});
    reached_ns_ += change_ns;
  }
  int64_t reached_ns() const { return reached_ns_; }

 private:
  std::string part_;
  std::vector<WhyBar>& bars_;
  int64_t reached_ns_ = 0;
};

// What the replay timed of the operators that the plan concerns, on the planned rank.
struct Timed {
  bool known = false;  // operators were timed in both arms
  int64_t gained_ns = 0, slowed_ns = 0;
  // What the readers would not have gained either had all been cached; none: arm hot was not timed.
  std::optional<int64_t> no_faster_ns{};
  std::vector<int32_t> short_of_gain, slowed;  // windows
};

std::optional<int64_t> gain_of(const OperatorTimes& op) {
  if (!op.baseline_ns || !op.prefetch_ns) return std::nullopt;
  return *op.baseline_ns - *op.prefetch_ns;
}

// What arm hot says of each reader: the predicted saving less what the fetched share of its bytes
// saves when they certainly are in the cache.
std::optional<int64_t> no_faster_ns(const Scenario& scenario) {
  struct Fetched {
    double size_bytes = 0, predicted_saved_ns = 0;
  };
  std::map<int32_t, Fetched> readers;
  for (const Window& window : scenario.plan.windows) {
    for (const Prefetch& prefetch : window.prefetches) {
      Fetched& fetched = readers[prefetch.consumer_ordinal];
      fetched.size_bytes += static_cast<double>(prefetch.length_bytes);
      fetched.predicted_saved_ns += static_cast<double>(prefetch.predicted_saved_ns);
    }
  }
  double total_ns = 0;
  for (const auto& [ordinal, fetched] : readers) {
    const OperatorTimes& op = scenario.operators[static_cast<size_t>(ordinal)];
    if (!op.baseline_ns || !op.hot_ns) return std::nullopt;
    const double share =
        op.read_bytes > 0 ? std::min(1.0, fetched.size_bytes / static_cast<double>(op.read_bytes))
                          : 1.0;
    const double hot_gain_ns =
        share * (static_cast<double>(*op.baseline_ns) - static_cast<double>(*op.hot_ns));
    total_ns += fetched.predicted_saved_ns - hot_gain_ns;
  }
  return std::llround(total_ns);
}

Timed time_plan(const Scenario& scenario) {
  Timed timed;
  std::set<int32_t> readers;
  std::vector<Weighted> missing, slowed;
  for (const Window& window : scenario.plan.windows) {
    if (window.used_bytes == 0) continue;
    const auto gain = gain_of(scenario.operators[static_cast<size_t>(window.ordinal)]);
    if (gain) {
      timed.known = true;
      timed.slowed_ns -= *gain;
      slowed.push_back({-*gain, window.ordinal});
    }
    int64_t missing_ns = 0;
    for (const Prefetch& prefetch : window.prefetches) {
      const auto reader =
          gain_of(scenario.operators[static_cast<size_t>(prefetch.consumer_ordinal)]);
      if (!reader) continue;
      missing_ns += prefetch.predicted_saved_ns - *reader;
      if (readers.insert(prefetch.consumer_ordinal).second) timed.gained_ns += *reader;
    }
    missing.push_back({missing_ns, window.ordinal});
  }
  timed.known = timed.known && !readers.empty();
  if (timed.known) timed.no_faster_ns = no_faster_ns(scenario);
  timed.short_of_gain = heaviest(std::move(missing));
  timed.slowed = heaviest(std::move(slowed));
  return timed;
}

// `rest_ns`: what the readers saved less than predicted, of bytes that were fetched in time.
void explain_readers(const Timed& timed, int64_t rest_ns, Way& way) {
  if (rest_ns <= 0) {
    way.change("saved beyond the plan", "the readers saved more than predicted", rest_ns,
               timed.short_of_gain);
  } else if (!timed.no_faster_ns) {
    way.change("evicted or read no faster",
               "fetched in time, and the readers saved less than predicted; a replay with arm hot "
               "tells which",
               rest_ns, timed.short_of_gain);
  } else {
    const int64_t no_faster_ns = std::clamp<int64_t>(*timed.no_faster_ns, 0, rest_ns);
    way.change("read no faster",
               "with everything cached (arm hot) the readers do not save what was predicted either",
               no_faster_ns, timed.short_of_gain);
    way.change("evicted",
               "fetched in time; with everything cached (arm hot) their readers save more, so the "
               "bytes had left the cache",
               rest_ns - no_faster_ns, timed.short_of_gain);
  }
}

int64_t predicted_ns(const PlanView& plan) {
  int64_t saved_ns = 0;
  for (const Window& window : plan.windows) saved_ns += window.predicted_saved_ns;
  return saved_ns;
}

void explain_measured(const Scenario& scenario, std::vector<WhyBar>& bars) {
  const Arm* baseline = arm_named(*scenario.measured, "baseline");
  const Arm* prefetch = arm_named(*scenario.measured, "prefetch");
  if (baseline == nullptr || prefetch == nullptr || !baseline->step_ns || !prefetch->step_ns) {
    return;
  }
  const int64_t prefetch_ns = std::llround(prefetch->step_ns->estimate);
  const int64_t saved_ns = predicted_ns(scenario.plan);
  const int64_t planned_bytes = scenario.measured->planned_bytes;
  Way way("measured", bars);
  way.total("baseline", "the step without prefetches, as measured",
            std::llround(baseline->step_ns->estimate));
  way.change(
      "predicted saving", "what the plan expects its readers to save", -saved_ns,
      windows_by(scenario.plan, [](const Window& window) { return window.predicted_saved_ns; }));
  int64_t late_ns = 0;
  if (planned_bytes > 0) {
    const double late = 1 - prefetch->issued_bytes / static_cast<double>(planned_bytes);
    late_ns = std::llround(std::clamp(late, 0.0, 1.0) * static_cast<double>(saved_ns));
  }
  const Timed timed = time_plan(scenario);
  way.change("late", "bytes that were not fetched when their window ended", late_ns,
             timed.short_of_gain);
  if (timed.known) {
    explain_readers(timed, saved_ns - late_ns - timed.gained_ns, way);
    way.change(timed.slowed_ns > 0 ? "slow-down of collectives" : "shorter collectives",
               "collectives that carry prefetches, prefetch arm less baseline", timed.slowed_ns,
               timed.slowed);
    way.change("all else", "other operators, gaps and ranks", prefetch_ns - way.reached_ns());
  } else {
    way.change("all else",
               scenario.plan.prefetched_bytes == 0
                   ? "the plan fetches nothing: both arms run the same step, so this is noise"
                   : "operators were not timed in both arms, so nothing tells why",
               prefetch_ns - way.reached_ns());
  }
  way.total("prefetch", "the step with the plan, as measured", prefetch_ns);
}

void explain_bounds(const PlanView& plan, std::vector<WhyBar>& bars) {
  const int64_t cache_ns = plan.prefetch_step_ns - plan.window_limited_step_ns;
  const int64_t window_ns = plan.prefetch_step_ns - plan.cache_limited_step_ns;
  Way way("predicted", bars);
  way.total("predicted", "the step with the plan, by the model", plan.prefetch_step_ns);
  way.change("windows too short", "with this cache and windows of any length", -window_ns,
             windows_by(plan, [](const Window& window) {
               return window.binds == "window" ? std::llround(window.shadow_price_ns_per_mib) : 0;
             }));
  way.change("cache too small", "with these windows and a cache of any size", -cache_ns,
             windows_by(plan, [](const Window& window) {
               return window.binds == "cache" ? window.capacity_bytes - window.used_bytes : 0;
             }));
  const int64_t both_ns = plan.all_hot_step_ns - way.reached_ns();
  way.change(both_ns > 0 ? "counted twice" : "both at once",
             both_ns > 0 ? "what longer windows bring and a larger cache brings too"
                         : "what only longer windows together with a larger cache bring",
             both_ns);
  way.total("all hot", "everything is in the cache: no plan can beat this", plan.all_hot_step_ns);
}

}  // namespace

std::vector<WhyBar> explain(const Scenario& scenario) {
  std::vector<WhyBar> bars;
  if (scenario.measured) explain_measured(scenario, bars);
  explain_bounds(scenario.plan, bars);
  return bars;
}

}  // namespace preserve::report
