// SPDX-License-Identifier: Apache-2.0
// The figures of PRESERVE (arXiv 2501.08192) as sweeps with a text of their own. docs/explore.md
// describes each, docs/paper.md compares the published points.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "db/explore/cells.h"
#include "planner/explore/sweep.h"

namespace preserve {

using SheetCells = std::vector<std::vector<ExploreCell>>;  // in order, by sheet; all finished

struct Figure {
  const char* name;
  const char* meaning;
  std::vector<SweepSheet> (*sheets)();
  std::string (*text)(const Sweep& sweep, const SheetCells& cells);
  const char* area = "";  // constants file that it needs, unless another is named
  // Phi-3-medium's configuration is that of its short variant, which has a window; the paper reads
  // the whole context.
  bool whole_context = true;
};
std::span<const Figure> figures();

// usage_error listing the names when there is no such figure; nullptr for an empty name.
const Figure* find_figure(const std::string& name);

// A sheet from its axes as the command line writes them.
SweepSheet sheet_of(const char* title, std::initializer_list<const char*> axes);

// Bytes that one layer reads on each device, halves apart, and which caches hold them.
std::vector<SweepSheet> footprint_sheets();
std::string footprint_text(const Sweep& sweep, const SheetCells& cells);

// Speed-up of both strategies by batch and context, and at the published points with the time of an
// allreduce at which they would come out.
std::vector<SweepSheet> speedup_sheets();
std::string speedup_text(const Sweep& sweep, const SheetCells& cells);

// Step with overlapped product and allreduce over the step with prefetching.
std::vector<SweepSheet> fused_sheets();
std::string fused_text(const Sweep& sweep, const SheetCells& cells);

// What the speed-up depends on, one thing at a time.
std::vector<SweepSheet> sensitivity_sheets();
std::string sensitivity_text(const Sweep& sweep, const SheetCells& cells);

// The capacity of the cache that gives the most throughput per area and per cost, with and without
// prefetching, and how it depends on what is assumed.
std::vector<SweepSheet> design_sheets();
std::string design_text(const Sweep& sweep, const SheetCells& cells);

}  // namespace preserve
