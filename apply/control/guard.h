// SPDX-License-Identifier: Apache-2.0
// Which arm each step runs in, and from the times of the steps whether the plan stays on. Arms are
// compared in pairs of blocks of two steps, (original, other) or (other, original) by the
// Thue-Morse sequence, which keeps drift out of the comparison. Every rank of a host comes to the
// same arms: they follow from the number of the step and from a decision that takes effect at a
// later step. No clock, no MPI, no allocation; not synchronised.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "apply/control/blame.h"
#include "apply/control/evidence.h"
#include "apply/outcome_file.h"
#include "apply/plan_file.h"

namespace preserve::apply {

// What holds from `from_step` on, as one word that ranks can share.
struct Decision {
  State state = State::measuring;  // or on, off
  Off off = Off::none;
  uint32_t from_step = 0;

  bool operator==(const Decision&) const = default;
  uint64_t packed() const {
    return uint64_t{from_step} << 16 | uint64_t{static_cast<uint8_t>(off)} << 8 |
           static_cast<uint8_t>(state);
  }
  static Decision unpacked(uint64_t word) {
    return {static_cast<State>(word & 0xff), static_cast<Off>(word >> 8 & 0xff),
            static_cast<uint32_t>(word >> 16)};
  }
};

inline constexpr uint32_t kBlockSteps = 2, kPairSteps = 2 * kBlockSteps;
// A decision takes effect so many steps later at least: ranks are less than that apart.
inline constexpr uint32_t kNoticeSteps = 8;

// The arm of a step while `decision` holds.
struct Place {
  Arm arm = Arm::original;
  Arm compared = Arm::original;  // with original, in this pair; original: no comparison
};
Place place_of(uint32_t step, const Decision& decision, Mode mode, uint32_t control_every);

class Guard {
 public:
  struct Rules {
    Mode mode = Mode::guard;
    uint32_t deadline_pairs = kDefaultDeadlinePairs, control_every = kDefaultControlEvery;
  };
  explicit Guard(const Rules& rules);

  // The arm of the step that begins now.
  Arm begin();
  struct Ended {
    bool pair = false;                   // the last kPairSteps steps were counted
    std::optional<Decision> decision{};  // for all ranks; already adopted here
  };
  // The step has ended as it should. `fetch_ns`: spent in fetches.
  Ended end(double dur_ns, double fetch_ns);
  // The step was lost from sight: its pair does not count, and the next step begins another one.
  void lose();

  // Another rank has decided. The first decision to be off holds for ever.
  void adopt(const Decision& decision);
  // Verdicts come from elsewhere: this rank decides only what cannot wait.
  void follow() { follows_ = true; }
  // From now on all ranks must be in the same arm at the same step, whatever happens: one rank
  // decides, and everything with notice.
  void agree() { agrees_ = true; }
  // Something has happened that ends the run of the plan; nothing where it is not this rank's to
  // say.
  std::optional<Decision> give_up(Off off);

  uint32_t step() const { return step_; }  // number of the step that runs or comes next
  const Decision& decision() const { return decision_; }
  bool is_off() const { return decision_.state == State::off && decision_.from_step <= step_; }
  Evidence null() const { return null_.evidence(); }
  Evidence applied() const { return applied_.evidence(); }  // control pairs too
  Evidence control() const { return control_.evidence(); }
  const std::array<uint64_t, kArms>& steps() const { return steps_; }
  const std::array<uint64_t, kArms>& disturbed() const { return disturbed_; }

 private:
  static constexpr uint32_t kRecent = 32;
  const Decision& effective() const { return decision_.from_step <= step_ ? decision_ : before_; }
  bool is_disturbed(double dur_ns);
  std::optional<Off> blame_step(double dur_ns, double fetch_ns, bool disturbed);
  std::optional<Off> blame_pair();
  bool end_of_pair();
  std::optional<Decision> verdict() const;

  const Rules rules_;
  Decision decision_{};
  Decision before_{};  // holds until decision_ does
  bool follows_ = false, agrees_ = false;
  uint32_t step_ = 0;
  Place place_{};
  // The first step of an arm finds in the cache what the arm before has left, and not what its own
  // last windows would have fetched for it: it counts for neither.
  bool settles_ = true;
  struct Time {
    double ns = 0;
    int steps = 0;
  };
  Time original_{}, other_{};  // of the pair so far
  bool pair_counts_ = true;
  bool original_disturbed_ = false, other_disturbed_ = false;  // in the pair so far
  Blame long_steps_, disturbed_pairs_;
  double fetch_share_ = 0;  // of the time of undisturbed steps of all arms, of the last ones mostly
  uint32_t applied_pairs_ = 0;  // begun and ended while measuring, counted or not
  ConfidenceSequence null_, applied_, control_;
  std::array<uint64_t, kArms> steps_{}, disturbed_{};
  std::array<double, kRecent> recent_ns_{};  // a ring
  uint32_t recent_ = 0;                      // ever
  double quartile_ns_ = 0, median_ns_ = 0;   // upper quartile; 0: not known yet
};

// Ends the step that `guard` began in `arm`, and notes it and what follows in the outcome.
Guard::Ended end_step(Guard& guard, Arm arm, double dur_ns, double fetch_ns, OutcomeHeader& header,
                      std::span<StepSample> samples);

}  // namespace preserve::apply
