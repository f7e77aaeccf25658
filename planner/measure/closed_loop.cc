// SPDX-License-Identifier: Apache-2.0
#include "planner/measure/closed_loop.h"

#include <algorithm>

#include "common/error.h"
#include "common/text.h"
#include "common/units.h"
#include "planner/measure/issue_variants.h"
#include "planner/search/decompose.h"

namespace preserve {
namespace {

// An interval only where there is one.
std::string measured_text(const PairedSpeedup& found) {
  if (found.pairs < kFewestPairs) {
    return fmt::format("{}, from too few pairs for an interval ({} of at least {})",
                       found.pairs > 0 ? format_ratio(found.interval.estimate) : "nothing",
                       found.pairs, kFewestPairs);
  }
  return fmt::format("{} [{:.3f}, {:.3f}] over {}", format_ratio(found.interval.estimate),
                     found.interval.low, found.interval.high, count_of(found.pairs, "pair"));
}

PlanMeasurement measurement_of(const PairedSpeedup& found) {
  PlanMeasurement out{found.interval.estimate, {}, {}, found.pairs};
  if (found.pairs >= kFewestPairs) {
    out.low = found.interval.low;
    out.high = found.interval.high;
  }
  return out;
}

// Fastest first, by the lower end of the interval; those without an interval last.
bool measured_better(const PairedSpeedup& a, const PairedSpeedup& b) {
  const bool a_counts = a.pairs >= kFewestPairs, b_counts = b.pairs >= kFewestPairs;
  if (a_counts != b_counts) return a_counts;
  return a_counts && a.interval.low > b.interval.low;
}

}  // namespace

ClosedLoop::ClosedLoop(const FoldedStep& step, DeviceModel device, const PlanOptions& options,
                       int rounds)
    : step_(step),
      device_(std::move(device)),
      options_(options),
      rounds_(std::clamp(rounds, 1, kMostRounds)) {
  plan_round();
}

// Further plans are for this way of issuing. Its method becomes the device's first, which is
// corrected.
void ClosedLoop::lead_with(const IssueMethod& issue) {
  const auto method = std::ranges::find_if(device_.methods, [&](const PrefetchMethod& candidate) {
    return candidate.name == issue.name && candidate.placement == issue.placement;
  });
  if (method == device_.methods.end()) {
    throw internal_error("a plan was issued by {}, which the device does not have", issue.name);
  }
  std::rotate(device_.methods.begin(), method, method + 1);
  options_.problem.method = full_name(issue);
  issue_ = issue;
}

bool ClosedLoop::known(const std::vector<Entry>& plans, const Plan& plan,
                       const IssueMethod& issue) const {
  return std::ranges::any_of(plans, [&](const Entry& entry) {
    return entry.measured.issue == issue &&
           same_prefetches(entry.measured.plan.windows, plan.windows);
  });
}

void ClosedLoop::add_new(std::vector<Entry>& plans, Plan plan, const IssueMethod& issue) {
  if (used_windows(plan) == 0 || known(plans, plan, issue) || known(measured_, plan, issue)) return;
  Entry entry;
  entry.measured.plan = std::move(plan);
  entry.measured.issue = issue;
  entry.measured.planned_bandwidth_bytes_per_s =
      std::min(device_.methods.front().bandwidth_bytes_per_s, device_.memory_bandwidth_bytes_per_s);
  plans.push_back(std::move(entry));
}

void ClosedLoop::plan_round() {
  ++round_;
  planned_ = make_schedule(step_, device_, options_).schedule;
  if (round_ == 1 && !planned_.method.name.empty()) lead_with(planned_.method);
  planned_.method = issue_;
  std::vector<Entry> plans;
  add_new(plans, planned_.plan, issue_);
  for (const Plan& plan : planned_.candidates) add_new(plans, plan, issue_);
  // Once: the best way of issuing hardly depends on the plan.
  if (round_ == 1 && !plans.empty()) {
    const Plan best = plans.front().measured.plan;
    for (const IssueVariant& variant : issue_variants(device_, issue_)) {
      Plan plan = best;
      predict(plan, step_, device_, variant.method, options_);
      plan.reasons = {fmt::format("tried as a variant ({})", variant.why)};
      plan.objective_ns = 0;  // of the plan that it varies, not its own
      add_new(plans, std::move(plan), variant.method);
    }
  }
  if (!plans.empty()) {
    const std::string purpose = count_of(static_cast<int64_t>(plans.size()), "plan");
    return replay(std::move(plans), purpose);
  }
  if (round_ > 1) notes_.push_back("replanning with the measured costs gave no new plan");
  confirm_or_end();
}

void ClosedLoop::replay(std::vector<Entry> plans, std::string purpose) {
  Schedule schedule = planned_;
  schedule.method = plans.front().measured.issue;
  schedule.candidates.clear();
  for (const Entry& entry : plans) {
    Plan plan = entry.measured.plan;
    plan.verdict = PlanVerdict::prefetch;
    plan.measured.reset();
    plan.method.reset();
    if (entry.measured.issue != schedule.method) plan.method = entry.measured.issue;
    if (&entry == &plans.front()) {
      schedule.plan = std::move(plan);
    } else {
      schedule.candidates.push_back(std::move(plan));
    }
  }
  pending_ = std::move(plans);
  next_ = std::move(schedule);
  purpose_ = std::move(purpose);
}

void ClosedLoop::take(const ReplayFindings& findings) {
  if (!next_ || findings.plans.size() != pending_.size()) {
    throw internal_error("{} plans were replayed, {} findings came back", pending_.size(),
                         findings.plans.size());
  }
  ++replays_;
  if (findings.busy && !repeated_) {  // next() stays as it is
    repeated_ = true;
    return;
  }
  next_.reset();
  if (confirming_) return judge_alone(findings);
  for (size_t i = 0; i < pending_.size(); ++i) {
    pending_[i].measured.found = findings.plans[i];
    pending_[i].busy = findings.busy;
    measured_.push_back(std::move(pending_[i]));
  }
  pending_.clear();
  if (findings.busy) {
    notes_.push_back(fmt::format(
        "replay {} was ignored because ranks lost their cores during most samples, twice: "
        "measure again on an idle machine",
        replays_));
    return confirm_or_end();
  }
  if (round_ == rounds_) return confirm_or_end();
  learn();
  plan_round();
}

void ClosedLoop::judge_alone(const ReplayFindings& findings) {
  alone_ = findings.plans.front().speedup;
  if (!findings.busy && surely_faster(*alone_)) return;
  rejected_ = fmt::format("the best of {}, {}, was measured once more, alone: {}{}",
                          count_of(static_cast<int64_t>(measured_.size()), "plan"),
                          measured_text(measured_[*chosen_].measured.found.speedup),
                          measured_text(*alone_) + link_remark(),
                          findings.busy ? ", on a machine too busy to decide anything" : "");
  chosen_.reset();
}

// Continues with the way of issuing that measured best, and corrects the model of it.
void ClosedLoop::learn() {
  lead_with(best().issue);
  std::vector<const MeasuredPlan*> evidence;
  for (const Entry& entry : measured_) {
    if (entry.measured.issue == issue_ && !entry.busy) evidence.push_back(&entry.measured);
  }
  CorrectedDevice corrected = correct_device(step_, device_, evidence);
  device_ = std::move(corrected.device);
  if (corrected.changes.empty()) {
    notes_.push_back(fmt::format("replay {} confirms the device file", replays_));
  }
  for (const std::string& change : corrected.changes) {
    notes_.push_back(fmt::format("learnt from replay {}: {}", replays_, change));
  }
}

std::optional<size_t> ClosedLoop::winner() const {
  std::vector<PairedSpeedup> speedups;
  for (const Entry& entry : measured_) {
    speedups.push_back(entry.busy ? PairedSpeedup{} : entry.measured.found.speedup);
  }
  return find_winner(speedups);
}

void ClosedLoop::confirm_or_end() {
  chosen_ = winner();
  if (!chosen_ || measured_.size() == 1) return;
  confirming_ = true;
  replay({measured_[*chosen_]}, "the winner alone");
}

Schedule ClosedLoop::result() const {
  if (next_) throw internal_error("the plans to choose from are still being measured");
  Schedule schedule = planned_;
  schedule.candidates.clear();
  std::vector<const Entry*> order;
  for (const Entry& entry : measured_) order.push_back(&entry);
  std::ranges::stable_sort(order, [](const Entry* a, const Entry* b) {
    return measured_better(a->measured.found.speedup, b->measured.found.speedup);
  });
  if (chosen_) schedule.method = measured_[*chosen_].measured.issue;
  for (const Entry* entry : order) {
    Plan plan = entry->measured.plan;
    plan.verdict = PlanVerdict::prefetch;
    plan.measured = measurement_of(entry->measured.found.speedup);
    plan.method.reset();
    if (entry->measured.issue != schedule.method) plan.method = entry->measured.issue;
    if (chosen_ && entry == &measured_[*chosen_]) {
      if (alone_) plan.measured = measurement_of(*alone_);
      plan.reasons.insert(plan.reasons.end(), notes_.begin(), notes_.end());
      plan.reasons.push_back(why_chosen(*entry));  // the reason for the verdict comes last
      schedule.plan = std::move(plan);
    } else {
      schedule.candidates.push_back(std::move(plan));
    }
  }
  if (!chosen_) do_nothing(schedule);
  return schedule;
}

std::string ClosedLoop::why_chosen(const Entry& entry) const {
  const PairedSpeedup& found = entry.measured.found.speedup;
  std::string text = fmt::format(
      "measured {}{}, predicted {}: {}", measured_text(alone_.value_or(found)), link_remark(),
      format_ratio(entry.measured.plan.speedup), describe(entry.measured.issue));
  if (measured_.size() > 1) {
    text += fmt::format("; the best of {} measured plans ({} among them), measured once more alone",
                        measured_.size(), measured_text(found));
  }
  return text;
}

const MeasuredPlan& ClosedLoop::best() const {
  const auto better = [](const Entry& a, const Entry& b) {
    return measured_better(a.measured.found.speedup, b.measured.found.speedup);
  };
  return std::ranges::min_element(measured_, better)->measured;
}

std::string ClosedLoop::best_measurement() const {
  return fmt::format("{}{}, predicted {}, by {}", measured_text(best().found.speedup),
                     link_remark(), format_ratio(best().plan.speedup), describe(best().issue));
}

std::string ClosedLoop::link_remark() const {
  const int64_t link_ns = options_.problem.link_latency_ns;
  if (link_ns == 0) return {};
  return fmt::format(" with a stand-in for a network link of {} per collective",
                     format_duration(link_ns));
}

// The recorded step. Where nothing could be measured, the planner's own reason remains.
void ClosedLoop::do_nothing(Schedule& schedule) const {
  Plan plan;
  plan.baseline_step_ns = plan.prefetch_step_ns = planned_.plan.baseline_step_ns;
  plan.objective_ns = planned_.plan.objective_ns;
  plan.reasons = notes_;
  if (measured_.empty()) {
    plan.reasons = planned_.plan.reasons;
  } else if (!rejected_.empty()) {
    plan.reasons.push_back(rejected_);
  } else {
    const bool few = std::ranges::all_of(measured_, [](const Entry& entry) {
      return entry.measured.found.speedup.pairs < kFewestPairs;
    });
    plan.reasons.push_back(
        fmt::format("none of {} was significantly faster; the best: {}{}",
                    count_of(static_cast<int64_t>(measured_.size()), "plan"), best_measurement(),
                    few ? "; use a longer --measure-time to count more pairs" : ""));
  }
  schedule.plan = std::move(plan);
}

}  // namespace preserve
