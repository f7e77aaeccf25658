// SPDX-License-Identifier: Apache-2.0
// From amounts to orders: takes a flow apart, first in first out, into (window, slice of a tensor,
// consumer), the head of each tensor first and in the order of reading.
#pragma once

#include "planner/problem.h"
#include "planner/schedule.h"

namespace preserve {

// One PlannedWindow per window of the problem that fetches anything, with prices and what binds.
std::vector<PlannedWindow> decompose(const FoldedStep& step, const PlanProblem& problem,
                                     const FlowSolution& solution);

// Largest number of bytes that are fetched and not yet read, over one steady step of `op_count`
// operators. `unread_bytes`, when given, receives the amount held over each operator.
int64_t peak_unread_bytes(const std::vector<PlannedWindow>& windows, size_t op_count,
                          std::vector<int64_t>* unread_bytes = nullptr);

// Throws internal_error when windows do not fetch exactly what the flow says, a byte is fetched
// twice for one use, a window exceeds its capacity, or the cache its budget.
void check_decomposition(const FoldedStep& step, const PlanProblem& problem,
                         const FlowSolution& solution, const std::vector<PlannedWindow>& windows);

}  // namespace preserve
