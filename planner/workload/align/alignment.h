// SPDX-License-Identifier: Apache-2.0
// The cheapest alignment of two sequences of operators, by dynamic programming over both: kernels
// may be fused (one runs several parts), split (several run one operator), extra or missing. Time
// and memory grow with the product of the lengths: 2,000 kernels against 80 layers take some
// milliseconds and a megabyte.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "common/as_index.h"
#include "planner/workload/align/sequence.h"

namespace preserve::align {

// Recorded items [recorded, recorded_end) run the modelled ones [modelled, modelled_end).
struct Match {
  size_t recorded = 0, recorded_end = 0;
  size_t modelled = 0, modelled_end = 0;
  bool same_kind = true;               // else the kernel rules name another one, or none
  double misfit = 0;                   // |ln| of recorded over expected duration; 0: not compared
  std::optional<bool> shapes_agree{};  // within 2 % of the elements; nothing: no recorded shape
};

struct Alignment {
  std::vector<Match> matches;  // in order
  double cost = 0;
  double scale = 1;  // recorded durations over generated ones, of products
};

// input_error when together they are too long to be compared.
Alignment align(const std::vector<Recorded>& recorded, const std::vector<Modelled>& modelled);

// A recorded step beside the step of a model, and how they are aligned.
struct Pair {
  const FoldedStep& step;  // the recorded one
  const FoldedStep& model;
  std::vector<Recorded> recorded{};
  std::vector<Modelled> modelled{};
  Alignment alignment{};

  const StepOp& recorded_op(size_t index) const {
    return step.ops[as_index(recorded[index].ordinal)];
  }
  const StepOp& model_op(size_t index) const {
    return model.ops[as_index(modelled[index].ordinal)];
  }
  // Of all its kernels.
  double dur_ns(const Match& match) const {
    double sum_ns = 0;
    for (size_t i = match.recorded; i < match.recorded_end; ++i) sum_ns += recorded[i].dur_ns;
    return sum_ns;
  }
};

}  // namespace preserve::align
