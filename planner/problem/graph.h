// SPDX-License-Identifier: Apache-2.0
// The operator graph of a step: a vertex per operator; edges along each stream, from the
// operator that had ended last to the one that begins (as far as a recording shows the order that
// events and joins enforced), and from the writer of a tensor to its readers.
// Boost.Graph, hidden here. Vertices are ordinals.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "db/step/folded_step.h"

namespace preserve {

class OperatorGraph {
 public:
  // Throws input_error naming an operator when the dependencies form a cycle.
  explicit OperatorGraph(const FoldedStep& step);
  ~OperatorGraph();
  OperatorGraph(OperatorGraph&&) noexcept;

  size_t edge_count() const;
  // A topological order; equals the order of ordinals for a step that was recorded.
  std::vector<int32_t> topological_order() const;

  // Breadth first from `from` (not included), not beyond vertices with `is_boundary` set (not
  // included either). The search goes on into the next step over the wrap edge, from the last
  // operators to the first, at most back to `from`.
  std::vector<int32_t> breadth_first(int32_t from, const std::vector<uint8_t>& is_boundary) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace preserve
