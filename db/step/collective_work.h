// SPDX-License-Identifier: Apache-2.0
// On processors a collective is work: the core that calls it copies, adds and looks for the others.
// Where all ranks share a host, the rank that comes last waits for nobody and for no network, so the
// time that it takes is such work, and only what a rank takes longer is waiting.
#pragma once

#include <span>
#include <vector>

#include "db/step/folded_step.h"

namespace preserve {

// Times of the blocking collectives of a step, in order.
std::vector<double> collective_times_ns(const FoldedStep& step);

// `least_ns`: of each collective, on any rank. Sets work_ns of the step's.
void set_collective_work(FoldedStep& step, std::span<const double> least_ns);

// Whether `ranks` ranks have steps, all on one host.
bool all_ranks_on_one_host(const TraceDb& db, int64_t ranks);

}  // namespace preserve
