// SPDX-License-Identifier: Apache-2.0
// Whether the plan is to blame for mishaps of the program, judged after each of them: a sequential
// test, which blames a plan that is not to blame in at most 1 % of all runs, however long they are.
#pragma once

#include <algorithm>
#include <cstdint>

namespace preserve::apply {

class Blame {
 public:
  // One mishap. `share`: the probability of its being `on_plan` when the plan is not to blame.
  //
  // The likelihood ratio of nine of ten mishaps more being on the plan from one of them on,
  // averaged over which one that is with weights 1 / (n (n + 1)), is a martingale when none are: it
  // exceeds 1 / 0.01 ever with probability 0.01 (Ville 1939). The average keeps mishaps of the past
  // from hiding what begins now.
  void add(bool on_plan, double share) {
    share = std::clamp(share, kLeastShare, 1.0);
    const double ratio = on_plan ? (1 - kElsewhere * (1 - share)) / share : kElsewhere;
    ++count_;
    const auto n = static_cast<double>(count_);
    begun_ = (begun_ + 1 / (n * (n + 1))) * ratio;
    shown_ = shown_ || begun_ + 1 / (n + 1) >= 1 / kError;
  }
  bool is_shown() const { return shown_; }

 private:
  static constexpr double kError = 0.01, kElsewhere = 0.1;
  static constexpr double kLeastShare = 0.05;  // the share is an estimate: no single mishap decides
  uint64_t count_ = 0;
  double begun_ = 0;
  bool shown_ = false;
};

}  // namespace preserve::apply
