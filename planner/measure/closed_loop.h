// SPDX-License-Identifier: Apache-2.0
// preserve-tune --measure as a function of its measurements: which plans to replay next, how the
// device model is corrected, which plan is chosen. Uses no files and processes, so that tests can
// script the measurements. Same inputs and measurements, same schedule.
//
//   plan, replay the plans and variants of the best one, correct the model, plan again: `rounds`
//   times, or until replanning gives nothing new. The winner of several plans is chosen partly by
//   luck, so it is then measured once more, alone, and only that measurement decides. One replay is
//   repeated if the machine was too busy for it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "planner/measure/correction.h"
#include "planner/search/plan.h"

namespace preserve {

inline constexpr int kMostRounds = 8;

// Of one replay: what was found of schedule.plan, then of each of schedule.candidates.
struct ReplayFindings {
  std::vector<PlanFindings> plans;
  bool busy = false;  // ranks lost their cores in most samples: this replay decides nothing
};

class ClosedLoop {
 public:
  // `step` must outlive this.
  ClosedLoop(const FoldedStep& step, DeviceModel device, const PlanOptions& options, int rounds);

  // The schedule to replay next (its plan and all its candidates are to be measured), without trace
  // path and digest; nullopt at the end. Stays the same until take().
  const std::optional<Schedule>& next() const { return next_; }
  // What next() measures: "9 plans", "the winner alone".
  const std::string& purpose() const { return purpose_; }
  int replays_taken() const { return replays_; }

  // The findings of replaying next().
  void take(const ReplayFindings& findings);

  // The chosen plan, or do-nothing with the reason; every measured plan among the candidates.
  Schedule result() const;

 private:
  struct Entry {
    MeasuredPlan measured;
    bool busy = false;
  };

  void plan_round();
  void add_new(std::vector<Entry>& plans, Plan plan, const IssueMethod& issue);
  bool known(const std::vector<Entry>& plans, const Plan& plan, const IssueMethod& issue) const;
  void replay(std::vector<Entry> plans, std::string purpose);
  void judge_alone(const ReplayFindings& findings);
  void learn();
  void confirm_or_end();
  std::optional<size_t> winner() const;
  void lead_with(const IssueMethod& issue);
  void do_nothing(Schedule& schedule) const;
  const MeasuredPlan& best() const;
  std::string best_measurement() const;
  std::string link_remark() const;
  std::string why_chosen(const Entry& entry) const;

  const FoldedStep& step_;
  DeviceModel device_;  // its first method is the one planned with
  IssueMethod issue_;   // how that one is issued
  PlanOptions options_;
  int rounds_;

  int round_ = 0, replays_ = 0;
  bool confirming_ = false;
  bool repeated_ = false;
  std::string rejected_;                // why the winner was rejected
  std::optional<size_t> chosen_;        // into measured_
  std::optional<PairedSpeedup> alone_;  // the chosen one measured once more
  Schedule planned_;                    // of the last round
  std::vector<Entry> pending_, measured_;
  std::vector<std::string> notes_;  // corrections, round by round
  std::optional<Schedule> next_;
  std::string purpose_;
};

}  // namespace preserve
