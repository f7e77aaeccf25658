// SPDX-License-Identifier: Apache-2.0
#include "planner/search/reasons.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/as_index.h"
#include "common/stats.h"
#include "common/units.h"

namespace preserve {

namespace {

constexpr double kAgree = 0.01;  // of what the flow promises

}  // namespace

Saving saving_of(const Referee& referee, const PrefetchOrders& orders,
                 const SimulationResult& judged) {
  Saving saving;
  for (size_t i = 0; i < judged.ops.size(); ++i) {
    const OpModel& model = referee.models()[i];
    const SimulatedOp& op = judged.ops[i];
    const double hit_bytes = op.hit_bytes - model.base_hit_bytes;
    const double alone_ns =
        std::max(model.floor_ns, model.base_ns - hit_bytes * model.saved_per_hit_byte_ns);
    saving.hits_ns += model.base_ns - alone_ns;
    saving.slowed_ns += op.dur_ns - alone_ns;
  }
  for (size_t i = 0; i < judged.prefetches.size(); ++i) {
    const OpModel& consumer = referee.models()[as_index(orders.prefetches[i].consumer)];
    saving.evicted_ns += judged.prefetches[i].evicted_bytes * consumer.saved_per_hit_byte_ns;
  }
  saving.hits_ns += saving.evicted_ns;  // as if they had not been
  saving.waiting_ns = saving.total_ns() - (judged.baseline_step_ns - judged.step_ns);
  return saving;
}

Saving saving_of(const PlanProblem& problem, const FlowSolution& optimum) {
  Saving saving;
  for (size_t i = 0; i < optimum.consumed.size(); ++i) {
    saving.hits_ns +=
        price_to_ns(problem.flow.demands[i].profit) * static_cast<double>(optimum.consumed[i]);
  }
  for (size_t i = 0; i < optimum.supplied.size(); ++i) {
    saving.slowed_ns +=
        price_to_ns(problem.flow.supplies[i].cost) * static_cast<double>(optimum.supplied[i]);
  }
  return saving;
}

std::string where_they_differ(const Saving& flow, const Saving& simulated) {
  const double less_ns = flow.total_ns() - simulated.total_ns();
  if (std::fabs(less_ns) <= kAgree * flow.total_ns()) return {};
  std::pair<double, const char*> terms[] = {
      {flow.hits_ns - simulated.hits_ns, "what is fetched and read"},
      {simulated.evicted_ns - flow.evicted_ns, "bytes evicted before they are read"},
      {simulated.slowed_ns - flow.slowed_ns, "what runs beside the prefetches"},
      {simulated.waiting_ns - flow.waiting_ns, "gaps, overlap and waiting for prefetches"}};
  std::stable_sort(std::begin(terms), std::end(terms), [](const auto& a, const auto& b) {
    return std::fabs(a.first) > std::fabs(b.first);
  });
  std::string text = fmt::format("the flow promises {}, the simulator finds {}:",
                                 format_duration(std::llround(flow.total_ns())),
                                 format_duration(std::llround(simulated.total_ns())));
  const char* separator = " ";
  for (const auto& [ns, what] : terms) {
    if (std::fabs(ns) < std::fabs(less_ns) / 10) continue;
    text += fmt::format("{}{} {} by {}", separator, format_duration(std::llround(std::fabs(ns))),
                        ns > 0 ? "less" : "more", what);
    separator = ", ";
  }
  return text;
}

std::string what_is_certain(const SearchResult& certificate, int64_t baseline_step_ns) {
  const double most_percent =
      100 * std::max(0.0, certificate.most_saved_ns) / static_cast<double>(baseline_step_ns);
  if (!certificate.complete) {
    return fmt::format(
        "none of the {} single changes that were tried would save more than {:.4f} % of the step; "
        "it is too large to try all of them",
        certificate.changes, most_percent);
  }
  return fmt::format("none of {} single changes would save more than {:.4f} % of the step",
                     certificate.changes, most_percent);
}

std::string what_is_left(const Schedule& schedule) {
  const std::pair<int64_t, const char*> bounds[] = {
      {schedule.all_hot_step_ns, "every read hot"},
      {schedule.window_limited_step_ns, "only the windows limit"},
      {schedule.cache_limited_step_ns, "only the cache limits"}};
  const auto best =
      std::max_element(std::begin(bounds), std::end(bounds),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
  return fmt::format("no plan is below {} ({}); this one is within {:.2f} % of that",
                     format_duration(best->first), best->second,
                     100 * (static_cast<double>(schedule.plan.prefetch_step_ns) /
                                static_cast<double>(std::max<int64_t>(1, best->first)) -
                            1));
}

std::string why_nothing_is_fetched(const PlanOptions& options, const DeviceModel& device,
                                   const PlanProblem& problem, const FlowSolution& optimum) {
  const PrefetchMethod* method = choose_method(device, options.problem.method);
  if (options.strategy == Strategy::none) return "strategy none was requested";
  if (method == nullptr) {
    return fmt::format("device {} has no prefetch method that works", device.name);
  }
  if (problem.budget_bytes < kBlockBytes) {
    return fmt::format("device {} leaves no cache to prefetch into", device.name);
  }
  int64_t longest_ns = 0, capacity = 0;
  for (const Window& window : problem.windows) {
    longest_ns = std::max(longest_ns, window.usable_ns);
    capacity += window.capacity_bytes / kBlockBytes;
  }
  if (capacity == 0) {
    return fmt::format(
        "no window is long enough: at most {} remain after the start latency of {} and the "
        "window's own jitter{}",
        format_duration(longest_ns), format_duration(method->start_latency_ns),
        problem.notes.collective_work_ns <= 0
            ? ""
            : fmt::format("; for {} of the step the core works for the collectives itself and does "
                          "not wait",
                          format_duration(problem.notes.collective_work_ns)));
  }
  if (problem.consumers.empty() && problem.notes.still_cached_bytes > 0) {
    return "all that the step reads is still cached from its last use";
  }
  if (problem.consumers.empty()) {
    return "no operator gets faster by reading named tensors from the cache";
  }
  if (optimum.profit == 0) {
    return "operators stream so much between the windows and the reads that the cache has no "
           "room, "
           "or prefetching costs more than it saves";
  }
  if (device.window_cost_ns > 0) {
    return fmt::format("no window saves its fixed cost of {}",
                       format_duration(device.window_cost_ns));
  }
  return fmt::format("every piece is smaller than --min-prefetch ({})",
                     format_size(options.min_prefetch_bytes));
}

std::string why_not_worth_it(const Plan& best, const std::string& how) {
  const double gain_percent = 100 * (best.speedup - 1);
  if (gain_percent < 0) {
    return fmt::format(
        "every plan is predicted to be slower; the best, {}, by {:.2f} %: prefetching would evict "
        "what is still used, or slow down more than it saves",
        how, -gain_percent);
  }
  return fmt::format(
      "the predicted gain of the best plan, {}, is {:.3f} %: below {:.1f} %, too small to measure "
      "reliably",
      how, gain_percent, 100 * kVerdictTolerance);
}

std::string what_another_gives(const Schedule& chosen, const Schedule& other) {
  const Plan& plan = other.plan;
  return fmt::format("{} instead of {}: {}", describe(other.method), describe(chosen.method),
                     plan.verdict == PlanVerdict::prefetch
                         ? format_duration(plan.prefetch_step_ns) + " per step"
                         : plan.reasons.front());
}

}  // namespace preserve
