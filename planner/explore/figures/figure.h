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

struct Figure {
  const char* name;
  const char* meaning;
  std::vector<SweepSheet> (*sheets)();
  // The cells of a sheet in order, by sheet; all of them finished.
  std::string (*text)(const Sweep& sweep, const std::vector<std::vector<ExploreCell>>& cells);
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

}  // namespace preserve
