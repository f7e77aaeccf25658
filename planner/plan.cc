// SPDX-License-Identifier: Apache-2.0
#include "planner/plan.h"

#include <algorithm>
#include <cmath>

#include "common/error.h"
#include "common/stats.h"
#include "common/units.h"
#include "planner/bounds.h"
#include "planner/decompose.h"
#include "planner/search.h"
#include "planner/simulator.h"

namespace preserve {

namespace {

// A prediction above this on a GPU is more than careful hand-written prefetching has reached.
constexpr double kSuspiciousGain = 0.15;
// Variations are tried only while solving and judging them stays a matter of a second.
constexpr size_t kMostOpsForVariations = 50'000;
constexpr double kMiB = 1024.0 * 1024.0;

// A factor on all windows' capacity and one on the budget: plans that are more careful than the
// optimum of the model, for hardware that is less kind than the model.
struct Variation {
  double windows, budget;
};
constexpr Variation kVariations[] = {{0.75, 1}, {1, 0.75}, {0.5, 1},
                                     {1, 0.5},  {0.25, 1}, {1, 0.25}};

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

int64_t fetched_bytes(const Plan& plan) {
  int64_t bytes = 0;
  for (const PlannedWindow& window : plan.windows) bytes += window.used_bytes;
  return bytes;
}

int64_t used_windows(const Plan& plan) {
  return std::count_if(plan.windows.begin(), plan.windows.end(),
                       [](const PlannedWindow& window) { return window.used_bytes > 0; });
}

class Planner {
 public:
  Planner(const FoldedStep& step, const DeviceModel& device, const PlanOptions& options)
      : step_(step), device_(device), options_(options) {}

  Planned run() {
    planned_.problem = build_problem(step_, device_, options_.problem);
    describe();
    planned_.optimum = solve_flow(planned_.problem.flow);
    make_candidates();
    choose();
    set_bounds();
    judge();
    warn();
    return std::move(planned_);
  }

 private:
  const PlanProblem& problem() const { return planned_.problem; }
  Schedule& schedule() { return planned_.schedule; }

  void describe() {
    Schedule& s = schedule();
    s.rank = step_.rank;
    s.ranks = std::max<int64_t>(1, step_.world_size);
    s.step_ops = static_cast<int64_t>(step_.ops.size());
    s.device_name = device_.name;
    method_ = choose_method(device_, options_.problem.method);
    if (method_ != nullptr) {
      s.method = method_->name;
      s.placement = method_->placement;
      s.chunk_bytes = method_->chunk_bytes;
    }
    s.budget_bytes = problem().budget_bytes;
    s.link_latency_ns = options_.problem.link_latency_ns;
    s.seed = options_.seed;
    s.windows_mode = options_.problem.windows == WindowsMode::idle ? "idle" : "collective";
  }

  // --- candidates ---

  Plan evaluate(const char* strategy, std::vector<PlannedWindow> windows,
                const std::vector<Holding>& holdings) const {
    Plan plan;
    plan.strategy = strategy;
    plan.windows = std::move(windows);
    plan.cache_peak_bytes = peak_bytes(holdings, step_.ops.size());
    plan.baseline_step_ns = std::llround(problem().baseline_step_ns);
    plan.prefetch_step_ns = plan.baseline_step_ns;
    if (fetched_bytes(plan) == 0) return plan;
    const SimulationResult referee =
        simulate(step_, device_, plan,
                 {schedule_method(), schedule_placement(), options_.problem.link_latency_ns});
    // The referee's ratio on the recorded step, since its own baseline may differ by rounding, and
    // the fixed costs, which it does not know.
    const double ratio = referee.step_ns / referee.baseline_step_ns;
    plan.prefetch_step_ns = std::llround(problem().baseline_step_ns * ratio) +
                            used_windows(plan) * options_.window_cost_ns;
    plan.speedup = static_cast<double>(plan.baseline_step_ns) /
                   static_cast<double>(std::max<int64_t>(1, plan.prefetch_step_ns));
    return plan;
  }
  std::string schedule_method() const { return planned_.schedule.method; }
  std::string schedule_placement() const { return planned_.schedule.placement; }

  Plan flow_plan(const PlanProblem& problem, const FlowSolution& optimum) const {
    Decomposition found = search_windows(step_, problem, optimum,
                                         {options_.window_cost_ns, options_.min_prefetch_bytes});
    Plan plan = evaluate("flow", std::move(found.windows), found.holdings);
    plan.objective_ns = std::llround(price_to_ns(planned_.optimum.profit));
    plan.cache_shadow_price_ns_per_mib = cache_price_per_mib(problem, optimum);
    return plan;
  }

  Plan bfs_plan() const {
    std::vector<PlannedWindow> windows = plan_bfs(step_, problem(), options_.bfs);
    remove_small_pieces(windows, options_.min_prefetch_bytes);
    const std::vector<Holding> holdings = holdings_of(windows);
    return evaluate("bfs", std::move(windows), holdings);
  }

  // One more block of budget widens every edge that has any room or is just full.
  static double cache_price_per_mib(const PlanProblem& problem, const FlowSolution& optimum) {
    double price = 0;
    const size_t nodes = problem.flow.hold.size();
    for (size_t edge = 0; edge < nodes; ++edge) {
      if (problem.edge_traffic_bytes[edge] > problem.budget_bytes) continue;
      const int64_t rise = optimum.price[(edge + 1) % nodes] - optimum.price[edge];
      price += price_to_ns(std::max<int64_t>(0, rise));
    }
    return price * kMiB / static_cast<double>(kBlockBytes);
  }

  void add(Plan plan) {
    for (const Plan& other : plans_) {
      if (same_prefetches(plan, other)) return;
    }
    plans_.push_back(std::move(plan));
  }

  void make_candidates() {
    if (options_.strategy == Strategy::none) return add(evaluate("none", {}, {}));
    if (options_.strategy == Strategy::bfs) return add(bfs_plan());
    add(flow_plan(problem(), planned_.optimum));
    for (const Variation& variation : kVariations) {
      if (step_.ops.size() > kMostOpsForVariations) break;
      const PlanProblem scaled = scaled_problem(problem(), variation.windows, variation.budget);
      add(flow_plan(scaled, solve_flow(scaled.flow)));
    }
    add(bfs_plan());
    add(evaluate("none", {}, {}));
  }

  // --- the choice ---

  void choose() {
    // The first is the optimum of the model; only a strictly better judgement displaces it.
    const auto best = std::min_element(
        plans_.begin(), plans_.end(),
        [](const Plan& a, const Plan& b) { return a.prefetch_step_ns < b.prefetch_step_ns; });
    std::string note;
    if (best != plans_.begin()) note = why_displaced(*best);
    schedule().plan = std::move(*best);
    plans_.erase(best);
    if (!note.empty()) schedule().plan.reasons.push_back(std::move(note));
    std::stable_sort(plans_.begin(), plans_.end(), [](const Plan& a, const Plan& b) {
      return a.prefetch_step_ns < b.prefetch_step_ns;
    });
    std::erase_if(plans_, [](const Plan& plan) { return plan.strategy == "none"; });
    const auto others = static_cast<size_t>(std::max(0, options_.candidates - 1));
    plans_.resize(std::min(plans_.size(), others));
    schedule().candidates = std::move(plans_);
  }

  std::string why_displaced(const Plan& best) const {
    const std::string optimum =
        format_duration(static_cast<double>(plans_.front().prefetch_step_ns));
    if (best.strategy == "none") {
      return fmt::format(
          "the referee predicts a loss from every plan (the optimum of the model takes {} per "
          "step): "
          "prefetching would evict what is still used",
          optimum);
    }
    return fmt::format(
        "the referee prefers {} ({} per step) to the optimum of the model as it is ({})",
        best.strategy == "bfs" ? "the plan of bfs" : "a more careful variation",
        format_duration(static_cast<double>(best.prefetch_step_ns)), optimum);
  }

  void set_bounds() {
    const StepBounds bounds = step_bounds(problem());
    const auto below_plan = [this](double ns) {
      return std::min<int64_t>(std::llround(ns), schedule().plan.prefetch_step_ns);
    };
    schedule().all_hot_step_ns = below_plan(bounds.all_hot_ns);
    schedule().window_limited_step_ns = below_plan(bounds.window_limited_ns);
    schedule().cache_limited_step_ns = below_plan(bounds.cache_limited_ns);
  }

  // --- verdict, reasons, warnings ---

  std::string why_nothing_is_fetched() const {
    if (options_.strategy == Strategy::none) return "strategy none was asked for";
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
          format_duration(static_cast<double>(longest_ns)),
          format_duration(static_cast<double>(method_->start_latency_ns)));
    }
    if (problem().consumers.empty() && problem().notes.still_cached_bytes > 0) {
      return "what the step reads is still cached from its last use";
    }
    if (problem().consumers.empty()) {
      return "no operator gets faster by reading named tensors from the cache";
    }
    if (planned_.optimum.profit == 0) {
      return "what operators stream between the windows and the reads leaves no room in the cache, "
             "or the traffic costs more than it saves";
    }
    if (options_.window_cost_ns > 0) {
      return fmt::format("no window earns its fixed cost of {}",
                         format_duration(static_cast<double>(options_.window_cost_ns)));
    }
    return fmt::format("every piece is below the smallest worth a request ({})",
                       format_size(static_cast<double>(options_.min_prefetch_bytes)));
  }

  void judge() {
    for (Plan& plan : schedule().candidates) judge(plan);
    judge(schedule().plan);
  }

  void judge(Plan& plan) const {
    const double gain = plan.speedup - 1;
    plan.verdict = "do-nothing";
    if (fetched_bytes(plan) == 0) {
      if (plan.reasons.empty()) plan.reasons.push_back(why_nothing_is_fetched());
    } else if (gain < kVerdictTolerance) {
      plan.reasons.push_back(
          fmt::format("the predicted gain of {:.2f} % is below {:.1f} %, which no measurement "
                      "could tell from noise",
                      100 * gain, 100 * kVerdictTolerance));
    } else {
      plan.verdict = "prefetch";
      plan.reasons.push_back(
          fmt::format("predicted {}: {} instead of {} per step", format_ratio(plan.speedup),
                      format_duration(static_cast<double>(plan.prefetch_step_ns)),
                      format_duration(static_cast<double>(plan.baseline_step_ns))));
    }
  }

  void warn() {
    std::vector<std::string>& out = schedule().warnings;
    const ProblemNotes& notes = problem().notes;
    out = step_.warnings;
    const auto count = [&out](int64_t number, const char* text) {
      if (number > 0) out.push_back(fmt::format("{} {}", number, text));
    };
    const auto size = [&out](int64_t bytes, const char* text) {
      if (bytes > 0) {
        out.push_back(fmt::format("{} {}", format_size(static_cast<double>(bytes)), text));
      }
    };
    if (device_.kind == "gpu" && schedule().plan.speedup > 1 + kSuspiciousGain) {
      out.push_back(
          fmt::format("a predicted gain of {:.1f} % is suspicious on a GPU, where careful work has "
                      "reached 2 to 7 %: "
                      "check the device file and the recorded bytes",
                      100 * (schedule().plan.speedup - 1)));
    }
    count(notes.operators_without_bytes,
          "operators have no recorded bytes: their traffic through the cache is taken as 0");
    count(notes.clamped_operators,
          "operators are recorded with more bytes than they can have read in their time: low "
          "confidence, only what fits is planned for");
    size(notes.low_confidence_bytes,
         "of the candidates were inferred, not recorded: low confidence");
    size(notes.unnamed_bytes,
         "per step are read from tensors of unknown role, which are never prefetched");
    size(notes.written_bytes, "of weights are written within the step and were left out");
    count(notes.clipped_accesses,
          "accesses reach beyond the end of their tensor and were cut there");
    count(notes.zero_duration_operators,
          "operators last 0 ns: they keep their place and cannot gain");
    count(
        notes.overlapping_operators,
        "operators start before their predecessor on the stream has ended: windows count only the "
        "time in which nothing else runs");
  }

  const FoldedStep& step_;
  const DeviceModel& device_;
  const PlanOptions& options_;
  const PrefetchMethod* method_ = nullptr;
  Planned planned_;
  std::vector<Plan> plans_;
};

}  // namespace

Planned make_schedule(const FoldedStep& step, const DeviceModel& device,
                      const PlanOptions& options) {
  return Planner(step, device, options).run();
}

}  // namespace preserve
