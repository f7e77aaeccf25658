// SPDX-License-Identifier: Apache-2.0
// The operator graph of a step. Vertices are ordinals; edges run along each stream, from the
// operator that had ended last to the one that begins (as far as a recording shows the order that
// events and joins enforced), and from the writer of a tensor to its readers. All of these go from
// a lower to a higher ordinal. One more vertex, step.ops.size(), is the end of the step: it leads
// from every operator without a successor to every one without a predecessor, of the next step.
#pragma once

#include <boost/graph/adjacency_list.hpp>
#include <cstdint>
#include <vector>

#include "db/step/folded_step.h"

namespace preserve {

using OperatorGraph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS>;

OperatorGraph operator_graph(const FoldedStep& step);

// Ordinals breadth first from `from` (not included), not beyond those with `is_boundary` set (not
// included either); continues into the next step, at most back to `from`.
std::vector<int32_t> operators_before_boundary(const OperatorGraph& graph, int32_t from,
                                               const std::vector<uint8_t>& is_boundary);

}  // namespace preserve
