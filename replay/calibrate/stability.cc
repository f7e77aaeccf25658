// SPDX-License-Identifier: Apache-2.0
#include "replay/calibrate/stability.h"

#include <fmt/ranges.h>
#include <algorithm>
#include <map>
#include <random>

#include "common/error.h"
#include "common/stats.h"
#include "common/units.h"

namespace preserve {
namespace {

constexpr double kBudgetTolerance = 0.10;
constexpr double kRateTolerance = 0.05;
constexpr int kResamples = 100;
// Rounds are drawn with those after them, an eighth at a time (circular block bootstrap, Politis
// and Romano 1992): the machine's clock drifts for seconds, and rounds drawn one by one would hide
// it.
constexpr size_t kBlocks = 8;
constexpr size_t kFewestRounds = 4;  // of which two halves can be told apart

CalibrationSamples pool(std::span<const CalibrationSamples* const> rounds) {
  CalibrationSamples all = *rounds.front();
  std::vector<std::vector<double>*> into;
  each_series(all, [&](std::vector<double>& series, SeriesKind) { into.push_back(&series); });
  for (const CalibrationSamples* round : rounds.subspan(1)) {
    auto target = into.begin();
    each_series(*round, [&](const std::vector<double>& series, SeriesKind) {
      (*target)->insert((*target)->end(), series.begin(), series.end());
      ++target;
    });
    all.interrupted += round->interrupted;
    all.taken += round->taken;
  }
  return all;
}

std::vector<const CalibrationSamples*> pointers(std::span<const CalibrationSamples> rounds) {
  std::vector<const CalibrationSamples*> all;
  for (const CalibrationSamples& round : rounds) all.push_back(&round);
  return all;
}

struct Figure {
  std::string name;
  double value = 0;
  size_t n = 0;
};

// All that is measured, by name; `samples` are those that `device` was made from.
std::vector<Figure> figures_of(const DeviceModel& device, const CalibrationSamples& samples) {
  std::vector<Figure> figures{
      {kBudgetFigure, static_cast<double>(device.cache_budget_bytes), samples.cold_ns.size()},
      {"memory_bandwidth_bytes_per_s", device.memory_bandwidth_bytes_per_s, samples.cold_ns.size()},
      {"cache_read_bandwidth_bytes_per_s", device.cache_read_bandwidth_bytes_per_s,
       samples.hot_ns.size()},
      {"op_floor_ns", static_cast<double>(device.op_floor_ns), samples.floor_ns.size()}};
  if (!samples.windows.empty()) {
    const size_t n = samples.windows.front().added_ns.size();
    figures.push_back({"window_cost_ns", static_cast<double>(device.window_cost_ns), n});
    figures.push_back({"slowdown_per_byte_ns", device.slowdown_per_byte_ns, n});
  }
  for (const PrefetchMethod& method : device.methods) {
    const auto timed = std::ranges::find_if(samples.methods, [&](const MethodSamples& candidate) {
      return candidate.name == method.name && candidate.placement == method.placement;
    });
    figures.push_back({method_figure(method, "bandwidth_bytes_per_s"), method.bandwidth_bytes_per_s,
                       timed->fetch_ns.size()});
    figures.push_back({method_figure(method, "hit_read_bandwidth_bytes_per_s"),
                       method.hit_read_bandwidth_bytes_per_s, timed->read_ns.size()});
    figures.push_back({method_figure(method, "start_latency_ns"),
                       static_cast<double>(method.start_latency_ns), timed->latency_ns.size()});
  }
  for (const SurvivalPoint& point : device.survival) {
    const auto timed =
        std::ranges::find(samples.survival, point.footprint_bytes, &FootprintSamples::bytes);
    figures.push_back({fmt::format("survival/{}/hit_fraction", point.footprint_bytes),
                       point.hit_fraction, timed->read_ns.size()});
  }
  for (const CollectiveFit& fit : device.collectives) {
    const size_t n = samples.allreduce.front().dur_ns.size();
    figures.push_back({"collectives/" + fit.function + "/latency_ns", fit.latency_ns, n});
    figures.push_back(
        {"collectives/" + fit.function + "/bandwidth_bytes_per_s", fit.bandwidth_bytes_per_s, n});
  }
  return figures;
}

std::vector<DeviceInterval> intervals_of(const std::vector<CalibrationSamples>& rounds,
                                         const std::vector<Figure>& figures) {
  std::map<std::string, std::vector<double>> drawn;
  std::mt19937_64 random(1);
  std::vector<const CalibrationSamples*> draw(rounds.size());
  const size_t block = (rounds.size() + kBlocks - 1) / kBlocks;
  size_t from = 0;
  for (int i = 0; i < kResamples; ++i) {
    for (size_t at = 0; at < draw.size(); ++at) {
      if (at % block == 0) from = random() % rounds.size();
      draw[at] = &rounds[(from + at % block) % rounds.size()];
    }
    const CalibrationSamples samples = pool(draw);
    for (const Figure& figure : figures_of(device_from(samples), samples)) {
      drawn[figure.name].push_back(figure.value);
    }
  }
  std::vector<DeviceInterval> intervals;
  for (const Figure& figure : figures) {
    const std::vector<double>& values = drawn[figure.name];
    if (values.empty() || figure.n == 0) continue;
    intervals.push_back({figure.name, quantile(values, 0.025), quantile(values, 0.975),
                         static_cast<int64_t>(figure.n)});
  }
  return intervals;
}

// What must repeat, how much, and how it is said.
struct Watched {
  std::string figure, name;
  double tolerance = 0;
  bool is_size = false;

  std::string text(double value) const {
    return is_size ? format_size(static_cast<int64_t>(value)) : format_rate(value);
  }
};

std::vector<Watched> watched(const DeviceModel& device) {
  std::vector<Watched> all{
      {kBudgetFigure, "budget", kBudgetTolerance, true},
      {"memory_bandwidth_bytes_per_s", "memory's rate", kRateTolerance, false},
      {"cache_read_bandwidth_bytes_per_s", "cache's rate", kRateTolerance, false}};
  if (!device.methods.empty()) {
    const PrefetchMethod& best = device.methods.front();
    all.push_back({method_figure(best, "bandwidth_bytes_per_s"), best.name + "'s rate",
                   kRateTolerance, false});
  }
  return all;
}

struct Halves {
  std::vector<Figure> first, second;
};

Halves halves_of(const std::vector<CalibrationSamples>& rounds) {
  const auto half = [&](size_t from, size_t count) {
    const CalibrationSamples samples = pool(pointers(std::span(rounds).subspan(from, count)));
    return figures_of(device_from(samples), samples);
  };
  const size_t middle = rounds.size() / 2;
  return {half(0, middle), half(middle, rounds.size() - middle)};
}

// By how much of itself the core's clock varied, without the twentieth at each end.
double clock_range(const CalibrationSamples& samples) {
  const std::vector<double>& ns = samples.clock_ns;
  return (quantile(ns, 0.95) - quantile(ns, 0.05)) / median(ns);
}

double value_of(const std::vector<Figure>& figures, const std::string& name) {
  const auto at = std::ranges::find(figures, name, &Figure::name);
  return at == figures.end() ? 0 : at->value;  // 0: a method that gains nothing in this half
}

}  // namespace

std::vector<std::vector<CalibrationSamples>> by_host(
    const std::vector<CalibrationSamples>& rounds) {
  std::map<std::string, std::vector<CalibrationSamples>> hosts;
  for (const CalibrationSamples& round : rounds) hosts[round.host.host].push_back(round);
  std::vector<std::vector<CalibrationSamples>> all;
  all.reserve(hosts.size());
  for (auto& [name, own] : hosts) all.push_back(std::move(own));
  return all;
}

CalibrationSamples pooled(const std::vector<CalibrationSamples>& rounds) {
  if (rounds.empty()) throw internal_error("no rounds were measured");
  return pool(pointers(rounds));
}

std::string unsteady_reason(const std::vector<CalibrationSamples>& rounds,
                            const DeviceModel& device, double part) {
  if (rounds.size() < kFewestRounds) return "too few rounds to tell";
  const CalibrationSamples all = pooled(rounds);
  if (2 * all.interrupted > all.taken) {
    return fmt::format("ranks lost their cores in {} of {} samples", all.interrupted, all.taken);
  }
  const auto [first, second] = halves_of(rounds);
  std::string reasons;
  for (const Watched& watch : watched(device)) {
    const double a = value_of(first, watch.figure), b = value_of(second, watch.figure);
    double low = std::min(a, b), high = std::max(a, b);
    const double most = part * watch.tolerance * (low + high) / 2;
    bool apart = high - low > most;
    if (const DeviceInterval* interval = find_interval(device, watch.figure)) {
      // Half the width: how far the figure itself may be off.
      apart = apart || (interval->high - interval->low) / 2 > most;
      low = std::min(low, interval->low);
      high = std::max(high, interval->high);
    }
    if (!apart) continue;
    reasons += fmt::format("{}the {} lies between {} and {}", reasons.empty() ? "" : ", ",
                           watch.name, watch.text(low), watch.text(high));
  }
  return reasons;
}

namespace {

DeviceModel judged_host(const std::vector<CalibrationSamples>& rounds) {
  const CalibrationSamples all = pooled(rounds);
  DeviceModel device = device_from(all);
  device.intervals = intervals_of(rounds, figures_of(device, all));
  device.verdict_reason = unsteady_reason(rounds, device);
  // Where it moves within seconds it moves more in minutes: rates repeat here and not later.
  if (const double range = clock_range(all); range > kRateTolerance) {
    device.verdict_reason +=
        fmt::format("{}the core's clock varies by {:.0f} %, and with it every rate",
                    device.verdict_reason.empty() ? "" : ", ", 100 * range);
  }
  device.verdict = device.verdict_reason.empty() ? "steady" : "unsteady";
  if (device.verdict == "unsteady" && rounds.size() >= kFewestRounds) {
    // All rounds together may look like the better half: both belong to what may come.
    const auto [first, second] = halves_of(rounds);
    for (DeviceInterval& interval : device.intervals) {
      for (const std::vector<Figure>* half : {&first, &second}) {
        const double value = value_of(*half, interval.figure);
        interval.low = std::min(interval.low, value);
        interval.high = std::max(interval.high, value);
      }
    }
  }
  return device;
}

}  // namespace

DeviceModel judged_device(const std::vector<CalibrationSamples>& rounds) {
  std::optional<DeviceModel> careful;
  std::vector<std::string> notes, unsteady;
  for (const std::vector<CalibrationSamples>& host : by_host(rounds)) {
    DeviceModel device = judged_host(host);
    const std::string& name = host.front().host.host;
    notes.push_back(fmt::format("host {}: memory {}, cache {}, budget {} per rank", name,
                                format_rate(device.memory_bandwidth_bytes_per_s),
                                format_rate(device.cache_read_bandwidth_bytes_per_s),
                                format_size(device.cache_budget_bytes)));
    if (device.verdict == "unsteady") unsteady.push_back(name + ": " + device.verdict_reason);
    const auto rank = [](const DeviceModel& of) {
      return std::pair(of.cache_budget_bytes, of.memory_bandwidth_bytes_per_s);
    };
    if (!careful || rank(device) < rank(*careful)) careful = std::move(device);
  }
  if (!careful) throw internal_error("no rounds were measured");
  if (notes.size() == 1) return *careful;
  careful->notes.insert(careful->notes.end(), notes.begin(), notes.end());
  careful->verdict = unsteady.empty() ? "steady" : "unsteady";
  careful->verdict_reason = fmt::format("{}", fmt::join(unsteady, "; "));
  return *careful;
}

}  // namespace preserve
