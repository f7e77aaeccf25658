// SPDX-License-Identifier: Apache-2.0
// A confidence sequence for the mean of normal samples of unknown spread: its 95 % interval may be
// looked at after every sample, for ever, and all looks together miss the true mean in at most 5 %
// of all runs.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "apply/outcome_file.h"

namespace preserve::apply {

class ConfidenceSequence {
 public:
  void add(double sample) {
    ++count_;
    const double delta = sample - mean_;
    mean_ += delta / static_cast<double>(count_);
    squares_ += delta * (sample - mean_);
  }

  // The Bayes factor of a t-test with prior effect size N(0, 1) against none, of the right Haar
  // prior on the spread, is a martingale when the mean is the tested one (Robbins 1970 for a known
  // spread; Lai 1976; Hendriksen, de Heide, Grünwald 2021), so that by Ville's inequality it ever
  // exceeds 1 / 0.05 with probability 0.05. The interval is all means that it does not exclude:
  //   (1 + n)^(-1/2) ((1 + t^2 / v) / (1 + t^2 / (v (1 + n))))^(n/2) < 20,  v = n - 1, solved for
  //   t.
  Evidence evidence() const {
    constexpr double kInfinite = std::numeric_limits<double>::infinity();
    Evidence found{count_, mean_, -kInfinite, kInfinite};
    if (count_ < 2) return found;
    const auto n = static_cast<double>(count_);
    const double a = std::pow(std::sqrt(1 + n) / kError, 2 / n);
    const double rest = 1 - a / (1 + n);
    if (rest <= 0) return found;  // too few samples to exclude anything
    // t^2 = v (a - 1) / rest, and half the width is t s / sqrt(n) with s^2 = squares / v.
    const double half = std::sqrt((a - 1) / rest * squares_ / n);
    found.low = mean_ - half;
    found.high = mean_ + half;
    return found;
  }

 private:
  static constexpr double kError = 0.05;
  uint64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

}  // namespace preserve::apply
