// SPDX-License-Identifier: Apache-2.0
#include "planner/search/plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "common/as_index.h"
#include "common/error.h"
#include "common/stats.h"
#include "common/units.h"
#include "planner/problem/plan_warnings.h"
#include "planner/referee/simulator.h"
#include "planner/schedule/schedule_check.h"
#include "planner/search/amounts.h"
#include "planner/search/bfs.h"
#include "planner/search/bounds.h"
#include "planner/search/methods.h"
#include "planner/search/reasons.h"
#include "planner/search/search.h"
#include "planner/search/starts.h"

namespace preserve {

const char* const kStrategiesInWords =
    "flow: the optimum of a flow, improved in the simulator; bfs: the paper's Algorithm 1; none";

namespace {

// The best start is improved; of steps up to a size some more, and of small ones all.
constexpr size_t kMostOpsForSomeStarts = 1'000;
constexpr size_t kSomeStarts = 2;
constexpr double kNearlyAsGood = 1.02;  // of the best start's step: a further one that is improved
constexpr size_t kMostOpsForAllStarts = 64;
constexpr double kPartsOfCache[] = {0.95, 0.85, 0.7, 0.5, 0.33, 0.25};

constexpr const char* kPlanOfBfs = "the plan of bfs";

int64_t fetched_bytes(const Plan& plan) {
  int64_t bytes = 0;
  for (const PlannedWindow& window : plan.windows) bytes += window.used_bytes;
  return bytes;
}

int64_t fixed_costs_ns(const Plan& plan, const DeviceModel& device) {
  return device.window_cost_ns * used_windows(plan);
}

// The referee's ratio applied to the recorded step, since its own baseline may differ by rounding,
// plus the fixed costs, which it does not model.
void set_prediction(Plan& plan, const SimulationResult& judged, const DeviceModel& device) {
  const double ratio = judged.step_ns / judged.baseline_step_ns;
  plan.prefetch_step_ns = std::llround(static_cast<double>(plan.baseline_step_ns) * ratio) +
                          fixed_costs_ns(plan, device);
  plan.speedup = static_cast<double>(plan.baseline_step_ns) /
                 static_cast<double>(std::max<int64_t>(1, plan.prefetch_step_ns));
}

// Starts are made and judged; the best is improved until no single change betters it. With strategy
// bfs only the paper's plan as it is, with strategy none none.
class Planner {
 public:
  Planner(const FoldedStep& step, const DeviceModel& device, const PlanOptions& options)
      : step_(step), device_(device), options_(options) {}

  // `narrower`: a further plan to begin with. `best`, where wanted: what the best plan fetches,
  // whether or not it is worth it.
  Planned run(const std::vector<PlannedWindow>& narrower,
              std::vector<PlannedWindow>* best = nullptr) {
    first_ = std::make_shared<const SolvedProblem>(
        solve(build_problem(step_, device_, options_.problem)));
    describe();
    for (const Window& window : problem().windows) windows_.push_back(window.ordinal);
    if (options_.strategy == Strategy::bfs) add_bfs();
    if (options_.strategy == Strategy::flow && method_ != nullptr) search(narrower);
    choose(best);
    set_bounds();
    name_places(step_, schedule());
    schedule().warnings =
        plan_warnings(step_, device_, options_.problem, problem().notes, schedule());
    return std::move(planned_);
  }

 private:
  using Solved = std::shared_ptr<const SolvedProblem>;
  struct Candidate {
    Plan plan;
    std::string what;
    Saving saving;                   // by the simulator, without fixed costs
    std::vector<double> kept_share;  // likewise, by operator
  };

  const PlanProblem& problem() const { return first_->problem; }
  Schedule& schedule() { return planned_.schedule; }

  void describe() {
    Schedule& s = schedule();
    s.rank = step_.rank;
    s.ranks = std::max<int64_t>(1, step_.world_size);
    s.step_ops = static_cast<int64_t>(step_.ops.size());
    s.prefill = step_.phase == StepPhase::prefill;
    s.signature = signature_of(step_);
    s.device_name = device_.name;
    method_ = choose_method(device_, options_.problem.method);
    if (method_ != nullptr) {
      s.method = issue_method(*method_);
    }
    s.budget_bytes = problem().budget_bytes;
    s.link_latency_ns = options_.problem.link_latency_ns;
    s.windows_mode = options_.problem.windows == WindowsMode::collective ? "collective" : "idle";
    referee_.emplace(step_, device_,
                     SimulationOptions{s.method.name, s.method.placement, s.link_latency_ns});
  }

  bool is_up_to(size_t operators) const { return step_.ops.size() <= operators; }
  bool is_small() const { return is_up_to(kMostOpsForAllStarts); }

  // --- candidates ---

  struct Start {
    Decomposition plan;
    std::string what;
    bool in_less_cache = false;
  };

  std::vector<Start> starts(const std::vector<PlannedWindow>& narrower) const {
    std::vector<Start> starts;
    for (Decomposition& plan : flow_plans(step_, device_, options_.problem, *first_)) {
      starts.push_back({std::move(plan), starts.empty() ? "the optimum of the flow"
                                                        : "the optimum of the flow given a plan"});
    }
    starts.push_back({amounts_of(plan_bfs(step_, problem())), kPlanOfBfs});
    // What fits into less cache fits. A flow that fills the cache may lose much of it where the
    // simulator finds that it holds less.
    for (const double part : kPartsOfCache) {
      ProblemOptions less = options_.problem;
      less.budget_bytes = std::llround(part * static_cast<double>(problem().held_bytes));
      if (*less.budget_bytes < kBlockBytes || !is_up_to(kMostOpsForSomeStarts)) break;
      starts.push_back({decompose(step_, solve(build_problem_given(step_, device_, less, {}))),
                        "the optimum of the flow in less cache", true});
    }
    if (!narrower.empty()) {
      starts.push_back({amounts_of(narrower), "the plan without idle windows"});
    }
    return starts;
  }

  Decomposition amounts_of(const std::vector<PlannedWindow>& windows) const {
    Decomposition plan;
    for (const PlannedWindow& window : windows) {
      plan.windows.push_back(window.ordinal);
      plan.capacity_bytes.push_back(window.capacity_bytes);
    }
    plan.amounts = WindowRing(step_, problem(), plan.windows).amounts_of(windows);
    return plan;
  }

  AssumedPlan assume(const std::vector<PlannedWindow>& windows) const {
    AssumedPlan assumed;
    assumed.hit_bytes.assign(step_.ops.size(), 0);
    assumed.window_bytes.assign(step_.ops.size(), 0);
    for (const PlannedWindow& window : windows) {
      assumed.window_bytes[as_index(window.ordinal)] = window.used_bytes;
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        assumed.hit_bytes[as_index(prefetch.consumer_ordinal)] += prefetch.length_bytes;
      }
    }
    return assumed;
  }

  void search(const std::vector<PlannedWindow>& narrower) {
    std::vector<Start> all = starts(narrower);
    for (const Start& item : all) {
      windows_.insert(windows_.end(), item.plan.windows.begin(), item.plan.windows.end());
    }
    std::sort(windows_.begin(), windows_.end());
    windows_.erase(std::unique(windows_.begin(), windows_.end()), windows_.end());
    const WindowRing ring(step_, problem(), windows_);
    PlanSearch search(*referee_, ring, limits(all));
    std::vector<SearchResult> judged;
    judged.reserve(all.size());
    for (Start& item : all) {
      judged.push_back(search.judge(ring.placed(item.plan.windows, std::move(item.plan.amounts))));
    }
    std::vector<size_t> by_time(all.size());
    std::iota(by_time.begin(), by_time.end(), size_t{0});
    std::stable_sort(by_time.begin(), by_time.end(),
                     [&](size_t a, size_t b) { return is_shorter(judged[a], judged[b]); });
    improve(search, all, judged, by_time);
    if (is_small()) certificate_ = search.settle(search.refill(std::move(certificate_)));
    const Amounts amounts = certificate_.amounts;
    add(Strategy::flow, ring.planned_windows(amounts), "the plan of the search");
    const auto enough = [&] { return candidates_.size() >= as_index(options_.candidates); };
    for (const size_t i : by_time) {
      if (enough()) break;
      const bool bfs = all[i].what == kPlanOfBfs;
      add(bfs ? Strategy::bfs : Strategy::flow, ring.planned_windows(judged[i].amounts),
          all[i].what);
    }
    // Plans to measure when hardware falls short of the model.
    for (const int64_t quarters : {3, 2, 1}) {
      if (enough()) break;
      add(Strategy::flow, ring.planned_windows(search.judge(scaled(amounts, quarters)).amounts),
          fmt::format("{} % of each window's bytes", 25 * quarters));
    }
  }

  // The best starts, the best of all also with changes at all periods at once. Those in less cache
  // resemble each other, so that of larger steps one is improved only if it is the best of all.
  void improve(PlanSearch& search, const std::vector<Start>& all,
               const std::vector<SearchResult>& judged, const std::vector<size_t>& by_time) {
    size_t left = is_small() ? all.size() : is_up_to(kMostOpsForSomeStarts) ? kSomeStarts : 1;
    std::vector<const Amounts*> improved;
    for (const size_t i : by_time) {
      const bool is_best = i == by_time.front();
      const double as_good_ns = kNearlyAsGood * judged[by_time.front()].step_ns;
      if (judged[i].step_ns > as_good_ns && !is_small()) break;
      if (all[i].in_less_cache && !is_best && !is_small()) continue;
      if (left-- == 0) break;
      const auto same = [&](const Amounts* other) { return *other == judged[i].amounts; };
      const bool known = std::ranges::any_of(improved, same);
      if (known) continue;
      improved.push_back(&judged[i].amounts);
      keep_shorter(search.improve(judged[i]));
      if (!is_best || is_small() || !is_up_to(kMostOpsForSomeStarts)) continue;
      SearchResult found = search.improve_periods(judged[i]);
      if (is_shorter(found, judged[i])) keep_shorter(search.improve(std::move(found)));
    }
  }

  void keep_shorter(SearchResult found) {
    if (certificate_.amounts.empty() || is_shorter(found, certificate_)) {
      certificate_ = std::move(found);
    }
  }

  // The search lets no window grow beyond what the flow supplies, in the step as recorded or given
  // one of the plans, whose hits leave more of the memory to the stream.
  PlanLimits limits(const std::vector<Start>& starts) const {
    PlanLimits limits{problem().budget_bytes, device_.window_cost_ns, options_.min_prefetch_bytes,
                      std::vector<int64_t>(windows_.size(), 0)};
    const auto at_most = [&](int32_t ordinal, int64_t bytes) {
      const auto at = std::lower_bound(windows_.begin(), windows_.end(), ordinal);
      int64_t& most = limits.most_bytes[as_index(at - windows_.begin())];
      most = std::max(most, bytes);
    };
    for (const Window& window : problem().windows) at_most(window.ordinal, window.capacity_bytes);
    for (const Start& start : starts) {
      for (size_t i = 0; i < start.plan.windows.size(); ++i) {
        at_most(start.plan.windows[i], start.plan.capacity_bytes[i]);
      }
    }
    return limits;
  }

  static Amounts scaled(Amounts amounts, int64_t quarters) {
    for (WindowShares& shares : amounts) {
      for (Share& share : shares) share.blocks = share.blocks * quarters / 4;
    }
    return amounts;
  }

  void add_bfs() {
    std::vector<PlannedWindow> windows = plan_bfs(step_, problem());
    for (PlannedWindow& window : windows) {
      std::erase_if(window.prefetches, [&](const PlannedPrefetch& prefetch) {
        return prefetch.length_bytes < options_.min_prefetch_bytes;
      });
      window.used_bytes = 0;
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        window.used_bytes += prefetch.length_bytes;
      }
    }
    add(Strategy::bfs, std::move(windows), kPlanOfBfs);
  }

  void add(Strategy strategy, std::vector<PlannedWindow> windows, std::string what) {
    Plan plan;
    plan.strategy = strategy;
    plan.verdict =
        PlanVerdict::prefetch;  // what following it does; whether to is for the chosen plan to say
    plan.windows = std::move(windows);
    plan.baseline_step_ns = plan.prefetch_step_ns = std::llround(problem().baseline_step_ns);
    if (fetched_bytes(plan) == 0) return;
    const bool known = std::ranges::any_of(candidates_, [&](const Candidate& other) {
      return same_prefetches(other.plan.windows, plan.windows);
    });
    if (known) return;
    plan.cache_peak_bytes = peak_bytes(holdings_of(plan.windows), step_.ops.size());
    for (PlannedWindow& window : plan.windows) describe_window(window);
    const PrefetchOrders orders = referee_->orders_of(plan);
    const SimulationResult judged = referee_->judge(plan, orders);
    for (const SimulatedPrefetch& found : judged.prefetches) {
      plan.windows[as_index(found.window)].prefetches[as_index(found.position)].predicted_saved_ns =
          found.saved_ns;
    }
    set_prediction(plan, judged, device_);
    const Saving saving = saving_of(*referee_, orders, judged);
    std::vector<double> kept_share = kept_share_of(plan, judged);
    candidates_.push_back({std::move(plan), std::move(what), saving, std::move(kept_share)});
  }

  // Of the bytes that arrive for each operator, those that are still cached when it reads them.
  std::vector<double> kept_share_of(const Plan& plan, const SimulationResult& judged) const {
    std::vector<double> arrived(step_.ops.size(), 0), hit(step_.ops.size(), 0);
    for (const SimulatedPrefetch& one : judged.prefetches) {
      const auto consumer = as_index(
          plan.windows[as_index(one.window)].prefetches[as_index(one.position)].consumer_ordinal);
      arrived[consumer] += one.arrived_bytes;
      hit[consumer] += one.hit_bytes;
    }
    for (size_t i = 0; i < hit.size(); ++i) hit[i] = arrived[i] > 0 ? hit[i] / arrived[i] : 1;
    return hit;
  }

  // What the recorded step says of it.
  void describe_window(PlannedWindow& window) const {
    window.binds = "none";
    window.capacity_bytes = window.used_bytes;
    const auto known = find_window(problem(), window.ordinal);
    if (!known) return;
    window.usable_ns = problem().windows[*known].usable_ns;
    window.capacity_bytes = std::max(window.used_bytes, problem().windows[*known].capacity_bytes);
  }

  static std::optional<size_t> find_window(const PlanProblem& in, int32_t ordinal) {
    const auto found = std::ranges::lower_bound(in.windows, ordinal, {}, &Window::ordinal);
    if (found == in.windows.end() || found->ordinal != ordinal) return {};
    return as_index(found - in.windows.begin());
  }

  // The flow around the plan: its optimum, the prices of windows and cache, and what limits them.
  void price(Candidate& chosen) {
    Plan& plan = chosen.plan;
    AssumedPlan assumed = assume(plan.windows);
    assumed.kept_share = chosen.kept_share;
    assumed.held_bytes = held_bytes(holdings_of(plan.windows), step_.ops.size());
    planned_.solved = std::make_shared<const SolvedProblem>(
        solve(build_problem_given(step_, device_, options_.problem, assumed)));
    const SolvedProblem& around = *planned_.solved;
    plan.objective_ns = std::llround(price_to_ns(around.optimum.profit));
    promised_ = saving_of(around.problem, around.optimum);
    plan.cache_shadow_price_ns_per_mib = cache_price_ns_per_mib(around.problem, around.optimum);
    const std::vector<WindowPrice> prices = window_prices(around.problem, around.optimum);
    for (PlannedWindow& window : plan.windows) {
      const auto of = find_window(around.problem, window.ordinal);
      if (!of) continue;
      window.shadow_price_ns_per_mib = prices[*of].ns_per_mib;
      window.binds = prices[*of].binds;
    }
  }

  static int64_t step_ns(const Candidate& of) { return of.plan.prefetch_step_ns; }

  void choose(std::vector<PlannedWindow>* best_windows) {
    if (candidates_.empty()) return do_nothing(why_nothing());
    const auto best = std::ranges::min_element(candidates_, {}, step_ns);
    if (best_windows != nullptr) *best_windows = best->plan.windows;
    if (best->plan.speedup < 1 + kVerdictTolerance) {
      const bool none_in_the_model =
          options_.strategy == Strategy::flow && first_->optimum.profit == 0;
      do_nothing(none_in_the_model ? why_nothing() : why_not_worth_it(best->plan, best->what));
      if (best->plan.strategy == Strategy::flow) {  // the promise that is not worth it
        price(*best);
        schedule().plan.objective_ns = best->plan.objective_ns;
        add_difference(best->saving);
      }
    } else {
      planned_.solved = first_;
      found_ = best->saving;
      if (best->plan.strategy == Strategy::flow) price(*best);
      best->plan.reasons.push_back(what_is_predicted(best->plan));
      schedule().plan = std::move(best->plan);
      candidates_.erase(best);
    }
    keep_candidates();
  }

  std::string why_nothing() const {
    return why_nothing_is_fetched(options_, device_, problem(), first_->optimum);
  }

  // The recorded step. The rejected plans stay among the candidates, where replay can still try
  // them.
  void do_nothing(std::string reason) {
    Plan& plan = schedule().plan;
    plan.strategy = Strategy::none;
    plan.verdict = PlanVerdict::do_nothing;
    plan.reasons = {std::move(reason)};
    plan.baseline_step_ns = plan.prefetch_step_ns = std::llround(problem().baseline_step_ns);
    if (options_.strategy == Strategy::flow) {
      plan.objective_ns = std::llround(price_to_ns(first_->optimum.profit));
    }
    planned_.solved = first_;
  }

  void keep_candidates() {
    std::ranges::stable_sort(candidates_, {}, step_ns);
    const auto others = as_index(std::max(0, options_.candidates - 1));
    candidates_.resize(std::min(candidates_.size(), others));
    for (Candidate& item : candidates_) {
      item.plan.reasons.push_back(what_is_predicted(item.plan));
      schedule().candidates.push_back(std::move(item.plan));
    }
  }

  std::string what_is_predicted(const Plan& plan) const {
    std::string text =
        fmt::format("predicted {}: {} instead of {} per step", format_ratio(plan.speedup),
                    format_duration(plan.prefetch_step_ns), format_duration(plan.baseline_step_ns));
    if (const int64_t fixed_ns = fixed_costs_ns(plan, device_); fixed_ns > 0) {
      text += fmt::format(", {} of it fixed cost per window", format_duration(fixed_ns));
    }
    return text;
  }

  void set_bounds() {
    const StepBounds bounds = step_bounds(step_, device_, problem(), *referee_, windows_);
    Schedule& s = schedule();
    s.all_hot_step_ns = std::llround(bounds.all_hot_ns);
    s.window_limited_step_ns = std::llround(bounds.window_limited_ns);
    s.cache_limited_step_ns = std::llround(bounds.cache_limited_ns);
    if (s.plan.strategy != Strategy::flow) return;
    s.plan.reasons.push_back(what_is_certain(certificate_, s.plan.baseline_step_ns));
    s.plan.reasons.push_back(what_is_left(s));
    add_difference(found_);
  }

  void add_difference(const Saving& found) {
    const std::string differ = where_they_differ(promised_, found);
    if (!differ.empty()) schedule().plan.reasons.push_back(differ);
  }

  const FoldedStep& step_;
  const DeviceModel& device_;
  const PlanOptions& options_;
  const PrefetchMethod* method_ = nullptr;
  std::optional<Referee> referee_;
  Solved first_;  // the step as recorded
  Planned planned_;
  std::vector<int32_t> windows_;  // at which the plans may fetch
  std::vector<Candidate> candidates_;
  SearchResult certificate_;
  Saving promised_, found_;  // of the chosen plan, by the flow and by the simulator
};

}  // namespace

SimulationResult predict(Plan& plan, const FoldedStep& step, const DeviceModel& device,
                         const IssueMethod& issue, const PlanOptions& options) {
  plan.prefetch_step_ns = plan.baseline_step_ns;
  plan.speedup = 1;
  if (fetched_bytes(plan) == 0) return {};
  SimulationResult result =
      simulate(step, device, plan, {issue.name, issue.placement, options.problem.link_latency_ns});
  set_prediction(plan, result, device);
  return result;
}

namespace {

Planned plan_by_method(const FoldedStep& step, const DeviceModel& device, PlanOptions options) {
  WindowsMode& windows = options.problem.windows;
  const bool as_paper = options.strategy == Strategy::bfs && windows == WindowsMode::automatic;
  windows = as_paper ? WindowsMode::collective : settled_windows(device, options.problem);
  std::vector<PlannedWindow> narrower;  // a search with more to choose from must not miss it
  const bool idle_too = windows != WindowsMode::collective && outlasts_window(device);
  if (options.strategy == Strategy::flow && idle_too) {
    PlanOptions fewer = options;
    fewer.candidates = 1;
    fewer.problem.windows = WindowsMode::collective;
    Planner(step, device, fewer).run({}, &narrower);
  }
  return Planner(step, device, options).run(narrower);
}

}  // namespace

Planned make_schedule(const FoldedStep& step, const DeviceModel& device,
                      const PlanOptions& options) {
  Planned chosen;
  for (const std::string& name : methods_to_plan(step, device, options.problem)) {
    PlanOptions named = options;
    named.problem.method = name;
    Planned other = plan_by_method(step, device, named);
    if (!chosen.solved) {
      chosen = std::move(other);
      continue;
    }
    const int64_t other_ns = other.schedule.plan.prefetch_step_ns;
    const auto worth_ns = std::llround((1 + kVerdictTolerance) * static_cast<double>(other_ns));
    if (worth_ns < chosen.schedule.plan.prefetch_step_ns) std::swap(chosen, other);
    chosen.schedule.plan.reasons.push_back(what_another_gives(chosen.schedule, other.schedule));
  }
  return chosen;
}

}  // namespace preserve
