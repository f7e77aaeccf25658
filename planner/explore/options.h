// SPDX-License-Identifier: Apache-2.0
// The command line of preserve-explore.
#pragma once

#include <string>
#include <vector>

#include "planner/explore/figures/figure.h"
#include "planner/explore/sweep.h"

namespace CLI {
class App;
}

namespace preserve {

struct ExploreOptions {
  std::string figure;                                                          // empty: a sweep
  std::vector<std::string> sweeps;                                             // KEY=VALUES
  std::vector<std::string> models, devices, dtypes, ranks, batches, contexts;  // the same, shorter
  std::string area;
  std::string collectives;  // library of the device files; empty: the first of each
  std::vector<std::string> outputs;
  bool force = false, whole_context = false, search = false;
  int threads = 0;  // 0: all cores of the host, shared by its ranks
};

// `options` must outlive the parsing.
void define_options(CLI::App& app, ExploreOptions& options);

// For the end of --help.
std::string keys_and_figures();

// Outputs by their kind; empty: not asked for.
struct ExploreOutputs {
  std::string db, csv, json;
};
// usage_error for a suffix that is none of these, and for two of one kind.
ExploreOutputs outputs_of(const ExploreOptions& options);

// The axes that the command line states. usage_error for one that is there twice.
std::vector<SweepAxis> stated_axes(const ExploreOptions& options);

// The sheets of the figure, or one for a sweep, with the stated axes in place of theirs.
std::vector<SweepSheet> sheets_of(const std::vector<SweepAxis>& stated, const Figure* figure);

}  // namespace preserve
