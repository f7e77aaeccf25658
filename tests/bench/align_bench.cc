// SPDX-License-Identifier: Apache-2.0
// How long the alignment of a recorded step of 2,000 kernels with a model of 80 layers takes.
#include "planner/workload/align/alignment.h"
#include "tests/bench/metric.h"

namespace preserve::align {
namespace {

constexpr int32_t kLayers = 80;
constexpr size_t kKernels = 2'000;
constexpr double kTargetMs = 50;

// Per layer: norm, queries, keys and values, attention, output, collective, norm, gate and up,
// down, collective.
std::vector<Modelled> model() {
  std::vector<Modelled> items;
  int32_t role = 0;
  int32_t ordinal = 0;
  const auto add = [&](Kind kind, double dur_ns, int32_t parts) {
    for (int32_t part = 0; part < parts; ++part) {
      items.push_back({.ordinal = ordinal,
                       .kind = kind,
                       .dur_ns = dur_ns / parts,
                       .elements = kind == Kind::product ? 1'000'000 : 0,
                       .part = part,
                       .parts = parts,
                       .role = role});
    }
    ++ordinal;
    ++role;
  };
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    role = 0;
    add(Kind::norm, 2'000, 1);
    add(Kind::product, 12'000, 3);
    add(Kind::attention, 10'000, 1);
    add(Kind::product, 8'000, 1);
    add(Kind::collective, 20'000, 1);
    add(Kind::norm, 2'000, 1);
    add(Kind::product, 40'000, 2);
    add(Kind::product, 20'000, 1);
    add(Kind::collective, 20'000, 1);
  }
  return items;
}

// All of them are compared, which is the worst case; most of a real step's kernels are helpers.
std::vector<Recorded> kernels(const std::vector<Modelled>& modelled) {
  std::vector<Recorded> items;
  for (const Modelled& item : modelled) {
    if (item.part == 0) items.push_back({0, item.kind, item.dur_ns * item.parts});
  }
  for (size_t i = 0; items.size() < kKernels; ++i) {
    items.insert(items.begin() + static_cast<std::ptrdiff_t>(i * 7919 % items.size()),
                 {0, Kind::unknown, 6'000});
  }
  return items;
}

void measure() {
  const std::vector<Modelled> modelled = model();
  const std::vector<Recorded> recorded = kernels(modelled);
  std::vector<double> ms;
  for (int i = 0; i < 11; ++i) {
    ms.push_back(1e3 * bench::seconds_of([&] { align(recorded, modelled); }));
  }
  preserve::bench::report_metric("planner", "alignment of 2,000 kernels with 80 layers", "ms", ms,
                                 "at most 50 ms", median(ms) <= kTargetMs);
}

}  // namespace
}  // namespace preserve::align

int main() {
  preserve::align::measure();
  return 0;
}
