// SPDX-License-Identifier: Apache-2.0
#include "profiler/clocks/hosts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "common/text.h"
#include "common/units.h"
#include "profiler/clocks/collectives.h"

namespace preserve::clocks {
namespace {

// By less than this a rank seems to leave early where clocks agree as well as they can be measured.
constexpr int64_t kWorthSayingNs = 20'000;

bool differs(const Line& line, const std::vector<Reading>& readings) {
  const double within = line.error_ns + line.residual_ns;
  return std::ranges::any_of(readings, [&](const Reading& reading) {
    return std::abs(line.offset_at(reading.local_ns)) > within;
  });
}

// Those that measured, and those that share their clock with one that did.
std::vector<Found> by_round_trips(const std::vector<Process>& processes) {
  std::vector<Found> found;
  std::set<int64_t> measured;
  std::map<std::string, Found> of_clock;
  for (const Process& process : processes) {
    const std::optional<Line> line = line_through(process.readings, process.end_ns);
    if (!line) continue;
    found.push_back({process.id, "round_trips", *line, differs(*line, process.readings)});
    of_clock.emplace(process.clock, found.back());
    measured.insert(process.id.value);
  }
  for (const Process& process : processes) {
    const auto same = of_clock.find(process.clock);
    if (same == of_clock.end() || !measured.insert(process.id.value).second) continue;
    found.push_back(same->second);
    found.back().process = process.id;
    found.back().line.readings = 0;
  }
  return found;
}

std::string duration(double ns) {
  return format_duration(std::llround(ns));
}

void describe(const std::vector<Found>& found, size_t hosts, Outcome& outcome) {
  double error_ns = 0, offset_ns = 0, drift = 0;
  size_t moved = 0;
  for (const Found& each : found) {
    error_ns = std::max(error_ns, each.line.error_ns);
    if (!each.moved) continue;
    ++moved;
    offset_ns = std::max(offset_ns, std::abs(each.line.offset_ns));
    drift = std::max(drift, std::abs(each.line.drift));
  }
  if (found.empty() || (hosts < 2 && moved == 0)) return;
  if (moved == 0) {
    outcome.notes.push_back(
        fmt::format("clocks of {} hosts agree within {}", hosts, duration(error_ns)));
    return;
  }
  outcome.notes.push_back(
      fmt::format("clocks of {}: {} moved by up to {}, drift up to {:.3g} ppm, known within {}",
                  count_of(static_cast<int64_t>(hosts), "host"),
                  moved == 1 ? "1 process" : fmt::format("{} processes", moved),
                  duration(offset_ns), drift * 1e6, duration(error_ns)));
}

}  // namespace

Outcome to_one_clock(TraceDb& db, const std::vector<Process>& processes) {
  Outcome outcome;
  std::set<std::string> hosts;
  for (const Process& process : processes) hosts.insert(process.host);
  const std::vector<Found> measured = by_round_trips(processes);
  move_times(db, measured);
  std::vector<Group> groups;
  std::vector<std::string> clock_of_group;
  std::set<int64_t> known;
  for (const Found& each : measured) known.insert(each.process.value);
  if (!known.empty()) {
    groups.emplace_back(known.begin(), known.end());
    clock_of_group.emplace_back();
  }
  std::map<std::string, size_t> group_of_clock;
  for (const Process& process : processes) {
    if (known.count(process.id.value) > 0) continue;
    const auto [group, fresh] = group_of_clock.try_emplace(process.clock, groups.size());
    if (fresh) {
      groups.emplace_back();
      clock_of_group.push_back(process.clock);
    }
    groups[group->second].push_back(process.id.value);
  }
  std::vector<Found> all = measured;
  if (groups.size() > 1) {
    Aligned aligned = align(db, groups);
    if (hosts.size() < 2) {
      std::erase_if(aligned.found, [](const Found& each) { return !each.moved; });
    }
    move_times(db, aligned.found);
    all.insert(all.end(), aligned.found.begin(), aligned.found.end());
    std::set<std::string> apart;
    for (const size_t group : aligned.apart) {
      if (hosts.size() > 1) apart.insert(clock_of_group[group]);
    }
    outcome.apart.assign(apart.begin(), apart.end());
  }
  describe(all, hosts.size(), outcome);
  const bool moved = std::ranges::any_of(all, &Found::moved);
  if (hosts.size() < 2 && !moved) return outcome;
  const int64_t early_ns = check(db);
  if (early_ns > kWorthSayingNs) {
    outcome.warnings.push_back(fmt::format(
        "by the times of this trace a rank left a collective {} before another had entered it: "
        "comparisons between ranks have that error",
        format_duration(early_ns)));
  }
  return outcome;
}

}  // namespace preserve::clocks
