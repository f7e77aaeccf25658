// SPDX-License-Identifier: Apache-2.0
#include "apply/control/guard.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace preserve::apply {
namespace {

constexpr double kTolerance = 0.005;  // the largest change that does not matter, as everywhere
const double kFast = std::log1p(kTolerance), kSlow = std::log1p(-kTolerance);
constexpr uint64_t kFewestPairs = 8;
// A plan that is surely FAST is compared until it is known how fast, to one percent or two up and
// down, or until the deadline: the first pairs are half a second of the program and of what else
// runs on its machine.
constexpr double kNarrow = 0.04;
constexpr uint32_t kNullEvery = 4;  // pairs
constexpr double kLongStep = 5, kDisturbed = 2;
constexpr double kShareMemory = 1.0 / 64;  // weight of one step

bool is_odd(uint32_t number) {  // Thue-Morse sequence
  return std::popcount(number) % 2 != 0;
}

std::optional<Off> no_better(const Evidence& evidence) {
  if (evidence.pairs < kFewestPairs) return std::nullopt;
  if (evidence.high < kSlow) return Off::slow;
  if (evidence.low > kSlow && evidence.high < kFast) return Off::same;
  if (evidence.high < kFast) return Off::no_gain;
  return std::nullopt;
}

uint32_t next_pair(uint32_t step) {
  return (step + kPairSteps - 1) / kPairSteps * kPairSteps;
}

}  // namespace

Place place_of(uint32_t step, const Decision& decision, Mode mode, uint32_t control_every) {
  if (mode == Mode::original) return {};
  const bool decided = decision.from_step <= step;
  if (decided && decision.state == State::off) return {};
  const bool on = decided && decision.state == State::on;
  const uint32_t pair = (on ? step - decision.from_step : step) / kPairSteps;
  Place place{Arm::applied, Arm::applied};
  uint32_t number = 0;  // of the pair among those that compare the same
  if (mode == Mode::dry_run) {
    place.compared = Arm::null;
    number = pair;
  } else if (on) {
    if (pair % control_every != control_every - 1) return {Arm::applied, Arm::original};
    number = pair / control_every;
  } else if (pair % kNullEvery == kNullEvery - 1) {
    place.compared = Arm::null;
    number = pair / kNullEvery;
  } else {
    number = pair - pair / kNullEvery;
  }
  const bool second = step % kPairSteps >= kBlockSteps;
  place.arm = second == is_odd(number) ? Arm::original : place.compared;
  return place;
}

Guard::Guard(const Rules& rules) : rules_(rules) {
  if (rules.mode == Mode::always) decision_.state = State::on;
}

Arm Guard::begin() {
  if (step_ % kPairSteps == 0) {
    original_ = other_ = {};
    pair_counts_ = true;
    original_disturbed_ = other_disturbed_ = false;
  }
  const Place place = place_of(step_, effective(), rules_.mode, rules_.control_every);
  // A decision may come into effect between the two blocks on a rank that heard of it late.
  if (step_ % kPairSteps != 0 && place.compared != place_.compared) pair_counts_ = false;
  settles_ = settles_ || place.arm != place_.arm;
  place_ = place;
  return place_.arm;
}

Guard::Ended Guard::end(double dur_ns, double fetch_ns) {
  Ended ended;
  const auto arm = static_cast<size_t>(place_.arm);
  const bool disturbed = is_disturbed(dur_ns);
  ++steps_[arm];
  if (disturbed) ++disturbed_[arm];
  // Before it is known what is usual a disturbed step would count too.
  if (disturbed || quartile_ns_ == 0) pair_counts_ = false;
  if (!settles_) {
    Time& time = place_.arm == Arm::original ? original_ : other_;
    time.ns += dur_ns;
    ++time.steps;
  }
  settles_ = false;
  (place_.arm == Arm::original ? original_disturbed_ : other_disturbed_) |= disturbed;
  std::optional<Off> at_once = blame_step(dur_ns, fetch_ns, disturbed);
  ++step_;
  const bool pair_ends = step_ % kPairSteps == 0 && place_.compared != Arm::original;
  if (pair_ends && !at_once) at_once = blame_pair();
  const bool may_decide = rules_.mode == Mode::guard && decision_.state != State::off;
  if (at_once && may_decide) {
    ended.decision = give_up(*at_once);
    if (ended.decision) return ended;
  }
  if (!pair_ends) return ended;
  ended.pair = end_of_pair();
  // Ranks that have not heard of a decision must not miss it for the next one.
  if (!may_decide || follows_ || (agrees_ && decision_.from_step > step_)) return ended;
  ended.decision = verdict();
  if (ended.decision) adopt(*ended.decision);
  return ended;
}

void Guard::lose() {
  step_ = next_pair(step_ + 1);
  settles_ = true;
  pair_counts_ = false;
}

void Guard::adopt(const Decision& decision) {
  if (rules_.mode != Mode::guard) return;
  if (decision_.state == State::off || decision.state == State::measuring) return;
  if (decision.state == decision_.state) return;
  before_ = effective();
  decision_ = decision;
}

std::optional<Decision> Guard::give_up(Off off) {
  if (rules_.mode != Mode::guard || decision_.state == State::off) return std::nullopt;
  if (agrees_ && (follows_ || decision_.from_step > step_)) return std::nullopt;
  adopt({State::off, off, agrees_ ? next_pair(step_ + kNoticeSteps) : step_});
  return decision_;
}

// Work of others on the same cores, which says nothing about the plan.
bool Guard::is_disturbed(double dur_ns) {
  const bool disturbed = quartile_ns_ > 0 && dur_ns > kDisturbed * quartile_ns_;
  recent_ns_[recent_ % kRecent] = dur_ns;
  ++recent_;
  if (recent_ % 8 == 0) {
    std::array<double, kRecent> sorted = recent_ns_;
    const uint32_t count = std::min(recent_, kRecent);
    std::sort(sorted.begin(), sorted.begin() + count);
    median_ns_ = sorted[count / 2];
    quartile_ns_ = sorted[count * 3 / 4];
  }
  return disturbed;
}

// A step over five times the median: memory that is swapped out or lies on a slow disk makes
// fetches take the time. A core that is taken away for a while takes it anywhere in the step, so
// that the share of the time that fetches have is the probability of meeting one.
std::optional<Off> Guard::blame_step(double dur_ns, double fetch_ns, bool disturbed) {
  if (!disturbed) {
    if (dur_ns > 0) fetch_share_ += kShareMemory * (fetch_ns / dur_ns - fetch_share_);
    return std::nullopt;
  }
  if (dur_ns <= kLongStep * median_ns_) return std::nullopt;
  long_steps_.add(fetch_ns > (dur_ns - median_ns_) / 2, fetch_share_);
  return long_steps_.is_shown() ? std::optional(Off::long_step) : std::nullopt;
}

// Others disturb either half of a pair alike, the order being that of Thue and Morse.
std::optional<Off> Guard::blame_pair() {
  if (place_.compared != Arm::applied || original_disturbed_ == other_disturbed_) {
    return std::nullopt;
  }
  disturbed_pairs_.add(other_disturbed_, 0.5);
  return disturbed_pairs_.is_shown() ? std::optional(Off::disturbed) : std::nullopt;
}

bool Guard::end_of_pair() {
  const bool on = decision_.state == State::on && decision_.from_step < step_;
  if (place_.compared == Arm::applied && !on) ++applied_pairs_;
  if (!pair_counts_ || original_.ns <= 0 || other_.ns <= 0) return false;
  const double gain = std::log(original_.ns / original_.steps) - std::log(other_.ns / other_.steps);
  if (place_.compared == Arm::null) {
    null_.add(gain);
  } else {
    applied_.add(gain);  // may be looked at for ever
    if (on) control_.add(gain);
  }
  return true;
}

std::optional<Decision> Guard::verdict() const {
  const uint32_t from = next_pair(step_ + kNoticeSteps);
  if (decision_.state == State::on) {
    // A decision that has not come into effect yet has no control pairs.
    const std::optional<Off> off = no_better(control_.evidence());
    if (off) return Decision{State::off, *off, from};
    return std::nullopt;
  }
  const Evidence evidence = applied_.evidence();
  const bool late = applied_pairs_ >= rules_.deadline_pairs;
  if (evidence.pairs >= kFewestPairs && evidence.low > kFast) {
    if (!late && evidence.high - evidence.low > kNarrow) return std::nullopt;
    return Decision{State::on, Off::none, from};
  }
  if (const std::optional<Off> off = no_better(evidence)) {
    return Decision{State::off, *off, from};
  }
  if (late) {
    return Decision{State::off, Off::undecided, from};
  }
  return std::nullopt;
}

Guard::Ended end_step(Guard& guard, Arm arm, double dur_ns, double fetch_ns, OutcomeHeader& header,
                      std::span<StepSample> samples) {
  const uint32_t step = guard.step();
  const Guard::Ended ended = guard.end(dur_ns, fetch_ns);
  if (header.samples < samples.size()) {
    samples[header.samples] = {static_cast<uint64_t>(dur_ns), step, arm, 0, 0};
  }
  ++header.samples;
  for (size_t i = 0; i < kArms; ++i) {
    header.steps[i] = guard.steps()[i];
    header.disturbed[i] = guard.disturbed()[i];
  }
  if (!ended.pair) return ended;
  for (uint64_t i = header.samples - kPairSteps; i < header.samples; ++i) {
    if (i < samples.size()) samples[i].counted = 1;
  }
  header.null = guard.null();
  header.applied = guard.applied();
  header.control = guard.control();
  return ended;
}

}  // namespace preserve::apply
