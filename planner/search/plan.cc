// SPDX-License-Identifier: Apache-2.0
#include "planner/search/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/as_index.h"
#include "common/error.h"
#include "common/stats.h"
#include "common/units.h"
#include "planner/problem/bounds.h"
#include "planner/problem/plan_warnings.h"
#include "planner/referee/simulator.h"
#include "planner/schedule/schedule_check.h"
#include "planner/search/bfs.h"
#include "planner/search/decompose.h"
#include "planner/search/search.h"

namespace preserve {

namespace {

// Variations are tried only while solving and judging them stays a matter of a second.
constexpr size_t kMostOpsForVariations = 50'000;

constexpr int kMostReplans = 3;

// A plan asks for at most this much of what the simulator sees arrive in time. Cutting what is late
// lets later prefetches begin earlier, so it is looked at again, a few times.
constexpr double kMostAsked = 1.05;
constexpr int kMostCuts = 4;

// A flow whose objective the referee confirms better, down to kConfirmedGap, is preferred to a plan
// that is faster by at most kConfirmedCost of the step, which is below kVerdictTolerance.
constexpr double kConfirmedGap = 0.02;
constexpr double kConfirmedCost = 0.004;

// A factor on all windows' capacity and one on the budget: more careful plans than the optimum of
// the model, for hardware that falls short of the model.
struct Variation {
  double windows, budget;
};
constexpr Variation kVariations[] = {{0.75, 1}, {1, 0.75}, {0.5, 1},
                                     {1, 0.5},  {0.25, 1}, {1, 0.25}};

int64_t fetched_bytes(const Plan& plan) {
  int64_t bytes = 0;
  for (const PlannedWindow& window : plan.windows) bytes += window.used_bytes;
  return bytes;
}

int64_t fixed_costs_ns(const Plan& plan, const DeviceModel& device) {
  return device.window_cost_ns * used_windows(plan);
}

// Candidates, in the order in which they are made; the same plan is kept once:
//   the optimum         of the problem of the recorded step (first_)
//   given a plan        optima of the problem in which the previous plan's reads already hit
//   variations          of the best of these: part of the windows, or of the cache
//   given the best      optima of the problem in which also its windows end each stream
//   bfs                 the paper's plan
// With strategy bfs only the last, with strategy none none.
class Planner {
 public:
  Planner(const FoldedStep& step, const DeviceModel& device, const PlanOptions& options,
          const Referee& referee)
      : step_(step), device_(device), options_(options), referee_(referee) {}

  Planned run() {
    first_ = solved(build_problem(step_, device_, options_.problem));
    describe();
    make_candidates();
    choose();
    set_bounds();
    schedule().warnings =
        plan_warnings(step_, device_, options_.problem, problem().notes, schedule());
    return std::move(planned_);
  }

 private:
  using Solved = std::shared_ptr<const SolvedProblem>;
  struct Candidate {
    Plan plan;
    Solved solved;
    std::string what;
  };

  static Solved solved(PlanProblem problem) {
    auto result = std::make_shared<SolvedProblem>();
    result->problem = std::move(problem);
    result->optimum = solve_flow(result->problem.flow);
    return result;
  }

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
    s.windows_mode = to_string(options_.problem.windows);
  }

  // --- candidates ---

  Plan evaluate(Strategy strategy, std::vector<PlannedWindow> windows,
                const std::vector<Holding>& holdings) const {
    Plan plan;
    plan.strategy = strategy;
    plan.verdict =
        PlanVerdict::prefetch;  // what following it does; whether to is for the chosen plan to say
    plan.windows = std::move(windows);
    plan.cache_peak_bytes = peak_bytes(holdings, step_.ops.size());
    plan.baseline_step_ns = std::llround(problem().baseline_step_ns);
    SimulationResult judged = judge(plan);
    if (options_.strategy != Strategy::flow) return plan;  // the paper's plan as it is
    for (int i = 0; i < kMostCuts && asks_for_too_much(plan, judged); ++i) {
      ask_for_what_arrives(plan, judged);
      plan.cache_peak_bytes = peak_bytes(holdings_of(plan.windows), step_.ops.size());
      judged = judge(plan);
    }
    return plan;
  }

  SimulationResult judge(Plan& plan) const {
    SimulationResult judged =
        predict(plan, step_, device_, planned_.schedule.method, options_, referee_);
    if (plan.strategy != Strategy::bfs) return judged;  // bfs itself knows no savings
    for (const SimulatedPrefetch& found : judged.prefetches) {
      plan.windows[as_index(found.window)].prefetches[as_index(found.position)].predicted_saved_ns =
          found.saved_ns;
    }
    return judged;
  }

  static bool asks_for_too_much(const Plan& plan, const SimulationResult& judged) {
    return static_cast<double>(fetched_bytes(plan)) > kMostAsked * judged.arrived_bytes &&
           !judged.prefetches.empty();
  }

  // Cuts every prefetch to the head of it that arrives in time. The simulator counts nothing for
  // asking in vain; a machine does.
  void ask_for_what_arrives(Plan& plan, const SimulationResult& judged) const {
    for (const SimulatedPrefetch& found : judged.prefetches) {
      PlannedPrefetch& prefetch =
          plan.windows[as_index(found.window)].prefetches[as_index(found.position)];
      const auto blocks = std::llround(std::ceil(found.arrived_bytes / double{kBlockBytes}));
      if (blocks * kBlockBytes >= prefetch.length_bytes) continue;
      prefetch.length_bytes = blocks * kBlockBytes;
      plan.windows[as_index(found.window)].binds = "window";
    }
    remove_small_pieces(plan.windows, kBlockBytes);
  }

  void add_flow(const Solved& solved, std::string what) {
    Decomposition found = search_windows(step_, solved->problem, solved->optimum,
                                         {device_.window_cost_ns, options_.min_prefetch_bytes});
    Plan plan = evaluate(Strategy::flow, std::move(found.windows), found.holdings);
    plan.objective_ns = std::llround(price_to_ns(solved->optimum.profit));
    plan.cache_shadow_price_ns_per_mib = cache_price_ns_per_mib(solved->problem, solved->optimum);
    add({std::move(plan), solved, std::move(what)});
  }

  void add_bfs() {
    std::vector<PlannedWindow> windows = plan_bfs(step_, problem());
    remove_small_pieces(windows, options_.min_prefetch_bytes);
    const std::vector<Holding> holdings = holdings_of(windows);
    Plan plan = evaluate(Strategy::bfs, std::move(windows), holdings);
    bfs_step_ns_ = plan.prefetch_step_ns;
    add({std::move(plan), first_, "the plan of bfs"});
  }

  void add_given(const AssumedPlan& assumed) {
    add_flow(solved(build_problem_given(step_, device_, options_.problem, assumed)),
             "the optimum given a plan");
  }

  // Operators whose reads hit leave the memory to the stream: plans again given the previous plan,
  // until that changes nothing.
  void replan_given_previous() {
    for (int i = 0; i < kMostReplans; ++i) {
      AssumedPlan assumed = assume(candidates_.back().plan);
      assumed.window_bytes.clear();
      const size_t before = candidates_.size();
      add_given(assumed);
      if (candidates_.size() == before) return;  // nothing new
    }
  }

  // With each stream cut where the best plan ends it, the convex envelope is the true cost of that
  // plan, also for partly used windows.
  void replan_given_best() {
    for (int i = 0; i < kMostReplans; ++i) add_given(assume(best()->plan));
  }

  AssumedPlan assume(const Plan& plan) const {
    AssumedPlan assumed;
    assumed.hit_bytes.assign(step_.ops.size(), 0);
    assumed.window_bytes.assign(step_.ops.size(), 0);
    for (const PlannedWindow& window : plan.windows) {
      assumed.window_bytes[as_index(window.ordinal)] = window.used_bytes;
      for (const PlannedPrefetch& prefetch : window.prefetches) {
        assumed.hit_bytes[as_index(prefetch.consumer_ordinal)] += prefetch.length_bytes;
      }
    }
    return assumed;
  }

  void add_variations(const SolvedProblem& of) {
    for (const Variation& variation : kVariations) {
      add_flow(solved(scaled_problem(of.problem, variation.windows, variation.budget)),
               fmt::format("a plan for {:.0f} % of the windows and {:.0f} % of the cache",
                           100 * variation.windows, 100 * variation.budget));
    }
  }

  void add(Candidate candidate) {
    for (Candidate& other : candidates_) {
      if (!same_prefetches(candidate.plan, other.plan)) continue;
      // The same plan from two problems: the one that describes it better counts.
      if (candidate.plan.strategy == Strategy::flow && other.plan.strategy == Strategy::flow &&
          gap_ns(candidate.plan) < gap_ns(other.plan)) {
        other = std::move(candidate);
      }
      return;
    }
    candidates_.push_back(std::move(candidate));
  }

  // Between the flow's objective and the referee's saving; neither includes fixed costs.
  int64_t gap_ns(const Plan& plan) const {
    const int64_t saved_ns =
        plan.baseline_step_ns - plan.prefetch_step_ns + fixed_costs_ns(plan, device_);
    return std::abs(saved_ns - plan.objective_ns);
  }

  void make_candidates() {
    if (options_.strategy == Strategy::none) return;
    if (options_.strategy == Strategy::bfs) return add_bfs();
    add_flow(first_, "the optimum");
    if (step_.ops.size() <= kMostOpsForVariations) {
      replan_given_previous();
      const Solved solved_best = best()->solved;  // add_variations() moves the candidates
      add_variations(*solved_best);
      replan_given_best();
    }
    add_bfs();
  }

  // --- the choice ---

  static bool is_better(const Candidate& a, const Candidate& b) {
    return a.plan.prefetch_step_ns < b.plan.prefetch_step_ns;
  }

  void choose() {
    const int64_t first_ns = candidates_.empty() ? 0 : candidates_.front().plan.prefetch_step_ns;
    std::erase_if(candidates_, [](const Candidate& item) { return fetched_bytes(item.plan) == 0; });
    if (candidates_.empty()) return do_nothing(why_nothing_is_fetched());
    // The first is the optimum of the model; only a strictly better judgement displaces it.
    const auto best = confirmed_best();
    if (best->plan.speedup < 1 + kVerdictTolerance) {
      const bool none_in_the_model =
          options_.strategy == Strategy::flow && first_->optimum.profit == 0;
      do_nothing(none_in_the_model ? why_nothing_is_fetched() : why_not_worth_it(*best));
    } else {
      if (best->plan.prefetch_step_ns != first_ns) {
        best->plan.reasons.push_back(why_displaced(*best, first_ns));
      }
      best->plan.reasons.push_back(what_is_predicted(best->plan));
      schedule().plan = std::move(best->plan);
      planned_.solved = best->solved;
      candidates_.erase(best);
    }
    keep_candidates();
  }

  // Share of the objective by which the referee disagrees; small ones are all alike.
  double disagreement(const Candidate& item) const {
    const double objective_ns = std::max(1.0, static_cast<double>(item.plan.objective_ns));
    return std::max(kConfirmedGap, static_cast<double>(gap_ns(item.plan)) / objective_ns);
  }

  std::vector<Candidate>::iterator best() {
    return std::min_element(candidates_.begin(), candidates_.end(), is_better);
  }

  // The best, or among almost equal flows the one whose objective the referee confirms best, so
  // that a schedule's objective can be trusted. Never one that bfs beats.
  std::vector<Candidate>::iterator confirmed_best() {
    const auto best = this->best();
    if (best->plan.strategy != Strategy::flow) return best;
    int64_t most_ns =
        best->plan.prefetch_step_ns +
        std::llround(kConfirmedCost * static_cast<double>(best->plan.baseline_step_ns));
    most_ns = std::min(most_ns, bfs_step_ns_);
    auto confirmed = best;
    for (auto item = candidates_.begin(); item != candidates_.end(); ++item) {
      if (item->plan.strategy != Strategy::flow || item->plan.prefetch_step_ns > most_ns) continue;
      if (item->plan.speedup < 1 + kVerdictTolerance) continue;  // the verdict is for the best
      const double more = disagreement(*item) - disagreement(*confirmed);
      if (more < 0 || (more == 0 && is_better(*item, *confirmed))) confirmed = item;
    }
    return confirmed;
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
    std::stable_sort(candidates_.begin(), candidates_.end(), is_better);
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

  static std::string why_not_worth_it(const Candidate& best) {
    const double gain_percent = 100 * (best.plan.speedup - 1);
    if (gain_percent < 0) {
      return fmt::format(
          "every plan is predicted to be slower; the best ({}) by {:.2f} %: prefetching would "
          "evict "
          "what is still used, or slow down more than it saves",
          best.what, -gain_percent);
    }
    return fmt::format(
        "the predicted gain of the best plan ({}), {:.3f} %, is below {:.1f} %, too small to "
        "measure reliably",
        best.what, gain_percent, 100 * kVerdictTolerance);
  }

  static std::string why_displaced(const Candidate& best, int64_t first_ns) {
    const std::string step = format_duration(best.plan.prefetch_step_ns);
    const std::string first = format_duration(first_ns);
    if (best.plan.prefetch_step_ns < first_ns) {
      return fmt::format(
          "the simulator prefers {} ({} per step) to the first optimum, the solution of the flow "
          "as "
          "it comes ({})",
          best.what, step, first);
    }
    return fmt::format(
        "{} ({} per step) is as good as the first optimum ({}), and the simulator confirms its "
        "objective",
        best.what, step, first);
  }

  void set_bounds() {
    const StepBounds bounds = step_bounds(planned_.solved->problem);
    schedule().all_hot_step_ns = std::llround(bounds.all_hot_ns);
    schedule().window_limited_step_ns = std::llround(bounds.window_limited_ns);
    schedule().cache_limited_step_ns = std::llround(bounds.cache_limited_ns);
  }

  // --- reasons ---

  std::string why_nothing_is_fetched() const {
    if (options_.strategy == Strategy::none) return "strategy none was requested";
    if (method_ == nullptr) {
      return fmt::format("device {} has no prefetch method that works", device_.name);
    }
    if (problem().budget_bytes < kBlockBytes) {
      return fmt::format("device {} leaves no cache to prefetch into", device_.name);
    }
    int64_t longest_ns = 0, capacity = 0;
    for (const Window& window : problem().windows) {
      longest_ns = std::max(longest_ns, window.usable_ns);
      capacity += window.capacity_bytes / kBlockBytes;
    }
    if (capacity == 0) {
      return fmt::format(
          "no window is long enough: at most {} remain after the start latency of {} and the "
          "window's own jitter",
          format_duration(longest_ns), format_duration(method_->start_latency_ns));
    }
    if (problem().consumers.empty() && problem().notes.still_cached_bytes > 0) {
      return "all that the step reads is still cached from its last use";
    }
    if (problem().consumers.empty()) {
      return "no operator gets faster by reading named tensors from the cache";
    }
    if (first_->optimum.profit == 0) {
      return "operators stream so much between the windows and the reads that the cache has no "
             "room, "
             "or prefetching costs more than it saves";
    }
    if (device_.window_cost_ns > 0) {
      return fmt::format("no window saves its fixed cost of {}",
                         format_duration(device_.window_cost_ns));
    }
    return fmt::format("every piece is smaller than --min-prefetch ({})",
                       format_size(options_.min_prefetch_bytes));
  }

  const FoldedStep& step_;
  const DeviceModel& device_;
  const PlanOptions& options_;
  const Referee& referee_;
  const PrefetchMethod* method_ = nullptr;
  Solved first_;  // the step as recorded
  Planned planned_;
  std::vector<Candidate> candidates_;
  int64_t bfs_step_ns_ = std::numeric_limits<int64_t>::max();  // also when a flow plans the same
};

}  // namespace

bool same_prefetches(const Plan& a, const Plan& b) {
  const auto same_prefetch = [](const PlannedPrefetch& x, const PlannedPrefetch& y) {
    return x.tensor == y.tensor && x.consumer_ordinal == y.consumer_ordinal &&
           x.offset_bytes == y.offset_bytes && x.length_bytes == y.length_bytes;
  };
  return std::equal(a.windows.begin(), a.windows.end(), b.windows.begin(), b.windows.end(),
                    [&](const PlannedWindow& x, const PlannedWindow& y) {
                      return x.ordinal == y.ordinal &&
                             std::equal(x.prefetches.begin(), x.prefetches.end(),
                                        y.prefetches.begin(), y.prefetches.end(), same_prefetch);
                    });
}

SimulationResult predict(Plan& plan, const FoldedStep& step, const DeviceModel& device,
                         const IssueMethod& issue, const PlanOptions& options,
                         const Referee& referee) {
  plan.prefetch_step_ns = plan.baseline_step_ns;
  plan.speedup = 1;
  if (fetched_bytes(plan) == 0) return {};
  SimulationResult result =
      referee(step, device, plan, {issue.name, issue.placement, options.problem.link_latency_ns});
  // The referee's ratio applied to the recorded step, since its own baseline may differ by
  // rounding, plus the fixed costs, which it does not model.
  const double ratio = result.step_ns / result.baseline_step_ns;
  plan.prefetch_step_ns = std::llround(static_cast<double>(plan.baseline_step_ns) * ratio) +
                          fixed_costs_ns(plan, device);
  plan.speedup = static_cast<double>(plan.baseline_step_ns) /
                 static_cast<double>(std::max<int64_t>(1, plan.prefetch_step_ns));
  return result;
}

Planned make_schedule(const FoldedStep& step, const DeviceModel& device, const PlanOptions& options,
                      const Referee& referee) {
  Planned planned = Planner(step, device, options, referee).run();
  if (options.problem.windows != WindowsMode::idle || options.strategy != Strategy::flow) {
    return planned;
  }
  // The plans that leave idle windows alone are among the choices.
  PlanOptions fewer = options;
  fewer.problem.windows = WindowsMode::collective;
  Planned without = Planner(step, device, fewer, referee).run();
  Plan& plan = planned.schedule.plan;
  if (without.schedule.plan.prefetch_step_ns < plan.prefetch_step_ns) {
    plan = std::move(without.schedule.plan);
    plan.reasons.emplace_back("windows without a collective would not make it faster");
    planned.solved = without.solved;
  }
  return planned;
}

}  // namespace preserve
