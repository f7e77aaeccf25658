// SPDX-License-Identifier: Apache-2.0
#include "planner/explore/figures/figure.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "common/cli_options.h"
#include "common/error.h"
#include "common/text.h"

namespace preserve {
namespace {

constexpr std::array kFigures{
    Figure{"footprint", "bytes of attention and MLP per device against the caches (Fig. 2)",
           footprint_sheets, footprint_text},
    Figure{"speedup", "speed-up by batch and context, and the published points (Fig. 4)",
           speedup_sheets, speedup_text},
    Figure{"fused", "against overlapped product and allreduce (Fig. 5)", fused_sheets, fused_text},
    Figure{"sensitivity", "devices, KV heads, cache, network, type: one at a time",
           sensitivity_sheets, sensitivity_text},
    Figure{"design", "which cache gives the most tokens per second and mm2 or cost", design_sheets,
           design_text, "n7"},
};

}  // namespace

std::span<const Figure> figures() {
  return kFigures;
}

const Figure* find_figure(const std::string& name) {
  if (name.empty()) return nullptr;
  const auto found = std::ranges::find(kFigures, name, &Figure::name);
  if (found != kFigures.end()) return &*found;
  std::vector<std::string> names;
  names.reserve(kFigures.size());
  for (const Figure& figure : kFigures) names.emplace_back(figure.name);
  throw usage_error("invalid --figure {}: expected {}{}", printable(name), fmt::join(names, ", "),
                    did_you_mean(name, names));
}

SweepSheet sheet_of(const char* title, std::initializer_list<const char*> axes) {
  SweepSheet sheet{title};
  for (const char* axis : axes) sheet.set(parse_axis(axis));
  return sheet;
}

}  // namespace preserve
