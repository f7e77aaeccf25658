// SPDX-License-Identifier: Apache-2.0
// Every series as a measurement of device.json. Names: docs/replay.md.
#include <fmt/format.h>

#include <cmath>

#include "common/enum_words.h"
#include "common/stats.h"
#include "replay/gpu/calibrate/calibration.h"
#include "replay/gpu/calibrate/fits.h"

namespace preserve {
namespace {

// Five digits: more than any of it is reproducible to, and a file that people can read.
double rounded(double value) {
  if (value == 0) return 0;
  const double scale = std::pow(10, 4 - std::floor(std::log10(std::fabs(value))));
  return std::round(value * scale) / scale;
}

constexpr double kAllThere = 0.95;

class Measurements {
 public:
  void add(const std::string& name, const char* unit, const Series& values,
           const std::string& note = {}) {
    if (values.empty()) return;
    list_.push_back({name, unit, rounded(median(values)), rounded(median_abs_deviation(values)),
                     static_cast<int64_t>(values.size()), note});
  }
  void add_fact(const std::string& name, const char* unit, double value) {
    list_.push_back({name, unit, rounded(value), 0, 1, "as the driver says"});
  }
  std::vector<DeviceMeasurement> take() { return std::move(list_); }

 private:
  std::vector<DeviceMeasurement> list_;
};

std::string name_of(const GpuIssue& issue) {
  return fmt::format("{}.{}x{}{}", word_of(kGpuFetchWords, issue.fetch), issue.ctas,
                     issue.chunk_bytes, issue.eviction == GpuEviction::last ? ".last" : "");
}

void add_reads(const GpuCalibrationSamples& samples, Measurements& out) {
  out.add("memory.read", "bytes/s", rates(samples.memory_read_bytes, samples.memory_read_ns));
  for (const FootprintTimes& footprint : samples.footprints) {
    const std::string name = fmt::format("footprint.{}", footprint.bytes);
    out.add(name + ".cold", "bytes/s", rates(footprint.bytes, footprint.cold_ns));
    out.add(name + ".again", "bytes/s", rates(footprint.bytes, footprint.again_ns));
  }
  for (const ArrivedTimes& point : samples.survival) {
    out.add(fmt::format("footprint.{}.prefetched", point.bytes), "bytes/s",
            rates(point.bytes, point.read_ns), name_of(point.issue));
  }
  for (const HalfTimes& half : samples.halves) {
    out.add(fmt::format("half.{}.read{}_after{}", half.bytes, half.read_by, half.filled_by),
            "bytes/s", rates(half.bytes, half.again_ns));
  }
}

// Prefetch rates of single windows: with the start in them, and where the window was long enough
// for everything a lower bound.
void add_grid(const GpuCalibrationSamples& samples, Measurements& out) {
  const double hit_bytes_per_s = fit_again(samples).bandwidth_bytes_per_s;
  for (const WindowTimes& window : samples.grid) {
    const Series shares = saved_share(window, samples.footprints, {});
    Series values = scaled(shares, static_cast<double>(window.bytes) * 1e9);
    if (values.empty()) continue;
    values = divided(values, window.window_ns);
    for (double& value : values) value = without_trailing(value, hit_bytes_per_s);
    out.add(fmt::format("grid.{}.{}us", name_of(window.issue), window.hold_ns / 1000), "bytes/s",
            values, median(shares) > kAllThere ? "at least: all was there before the end" : "");
  }
}

void add_prefetches(const GpuCalibrationSamples& samples, Measurements& out) {
  for (const ArrivedTimes& arrived : samples.arrived) {
    out.add(fmt::format("arrived.{}.{}", name_of(arrived.issue), arrived.bytes), "bytes/s",
            rates(arrived.bytes, arrived.read_ns));
  }
  for (size_t i = 0; i < samples.retired.size(); ++i) {
    const RetiredTimes& retired = samples.retired[i];
    const std::string name = fmt::format("retired.{}", name_of(retired.issue));
    const FootprintTimes& reference = cold_read_of(samples.references, retired.bytes);
    out.add(fmt::format("{}.{}.issue", name, retired.bytes), "ns", retired.issue_ns);
    out.add(fmt::format("{}.{}.there", name, retired.bytes), "1",
            hit_share(reference.cold_ns, retired.read_ns,
                      warm_read_of(samples.arrived, retired.issue, reference)));
    const bool is_last =
        i + 1 == samples.retired.size() || !(samples.retired[i + 1].issue == retired.issue);
    if (is_last) out.add(name + ".rate", "bytes/s", retired_rates(retired.issue, samples.retired));
  }
}

void add_ramps(const GpuCalibrationSamples& samples, Measurements& out) {
  for (const RampTimes& ramp : samples.ramps) {
    const std::string name = fmt::format("{}.{}", word_of(kStartWayWords, ramp.way),
                                         name_of(ramp.windows.front().issue));
    out.add("start." + name, "ns", fit_ramp(samples, ramp).start_ns);
    if (ramp.way == StartWay::leaf) {
      out.add("rate." + name, "bytes/s", prefetch_rates(samples, ramp));
    }
    for (const WindowTimes& window : ramp.windows) {
      out.add(fmt::format("ramp.{}.{}.{}ns", name, window.bytes, window.hold_ns), "1",
              saved_share(window, samples.references, samples.arrived));
    }
  }
}

void add_eviction(const GpuCalibrationSamples& samples, Measurements& out) {
  out.add_fact("set_aside.default", "bytes",
               static_cast<double>(samples.facts.persisting_l2_default_bytes));
  out.add_fact("set_aside.largest", "bytes",
               static_cast<double>(samples.facts.persisting_l2_max_bytes));
  for (const EvictionTimes& times : samples.evictions) {
    const FootprintTimes& reference = cold_read_of(samples.references, times.bytes);
    out.add(fmt::format("evict.{}.{}", word_of(kSetAsideWords, times.set_aside),
                        word_of(kGpuEvictionWords, times.eviction)),
            "1", hit_share(reference.cold_ns, times.read_ns, reference.again_ns),
            fmt::format("{} bytes, set-aside {}, after reading {} others", times.bytes,
                        set_aside_bytes(samples.facts, times.set_aside), times.traffic_bytes));
  }
}

void add_victims(const GpuCalibrationSamples& samples, Measurements& out) {
  for (const OperatorTimes& times : samples.operators) {
    const std::string name =
        fmt::format("operator.{}.{}", to_string(times.of), name_of(times.issue));
    const std::string note = fmt::format("reading {} bytes, beside {} prefetched bytes",
                                         times.bytes, times.fetched_bytes);
    out.add(name + ".alone", "ns", times.alone_ns, note);
    out.add(name + ".beside", "ns", times.beside_ns, note);
  }
  if (samples.link) {
    const std::string note = fmt::format("{} bytes to host memory, beside {} prefetched bytes",
                                         samples.link->link_bytes, samples.link->fetched_bytes);
    out.add("link.alone", "ns", samples.link->alone_ns, note);
    out.add("link.beside", "ns", samples.link->beside_ns, note);
    out.add("link.slowdown", "1", divided(samples.link->beside_ns, samples.link->alone_ns));
  }
  if (!samples.chase) return;
  const ChaseTimes& chase = *samples.chase;
  const double per_hop = 1.0 / static_cast<double>(chase.hops);
  const std::string note = fmt::format("per hop, {} hops", chase.hops);
  out.add("chase.hit", "ns", scaled(chase.hit_ns, per_hop), note);
  out.add("chase.hit_beside", "ns", scaled(chase.hit_beside_ns, per_hop), note);
  out.add("chase.hit_slowdown", "1", divided(chase.hit_beside_ns, chase.hit_ns));
  out.add("chase.miss", "ns", scaled(chase.miss_ns, per_hop), note);
  out.add("chase.miss_beside", "ns", scaled(chase.miss_beside_ns, per_hop), note);
  out.add("chase.miss_slowdown", "1", divided(chase.miss_beside_ns, chase.miss_ns));
}

void add_launches(const GpuCalibrationSamples& samples, Measurements& out) {
  for (const LeafTimes& times : samples.leaves) {
    out.add(fmt::format("leaves.{}.launch", times.leaves), "ns", times.launch_ns);
    out.add(fmt::format("leaves.{}.step", times.leaves), "ns", times.step_ns);
  }
  out.add("leaf.launch", "ns", added_by_leaf(samples, &LeafTimes::launch_ns),
          "added by one leaf, on the host");
  out.add("leaf.step", "ns", added_by_leaf(samples, &LeafTimes::step_ns),
          "added by one leaf, on the device");
  out.add("chain.node", "ns",
          scaled(minus(samples.long_chain.step_ns, samples.short_chain.step_ns),
                 1.0 / (samples.long_chain.nodes - samples.short_chain.nodes)),
          "a kernel that reads one block, in a chain of a graph");
}

void add_clocks(const GpuCalibrationSamples& samples, Measurements& out) {
  const auto add = [&](const char* name, const std::optional<int>& mhz) {
    if (mhz) out.add_fact(name, "MHz", *mhz);
  };
  if (samples.facts.timer_tick_ns > 0) {
    const auto tick_ns = static_cast<double>(samples.facts.timer_tick_ns);
    out.add("timer.tick", "ns", {tick_ns}, "smallest step of the timer that all times come from");
  }
  add("clock.sm.before", samples.before.sm_clock_mhz);
  add("clock.sm.after", samples.after.sm_clock_mhz);
  add("clock.memory.before", samples.before.memory_clock_mhz);
  add("clock.memory.after", samples.after.memory_clock_mhz);
  out.add("clock.probe.first", "ns", samples.first.probe_ns, "a fixed piece of arithmetic");
  out.add("clock.probe.second", "ns", samples.second.probe_ns, "a fixed piece of arithmetic");
}

}  // namespace

std::vector<DeviceMeasurement> measurements_of(const GpuCalibrationSamples& samples) {
  Measurements out;
  add_reads(samples, out);
  add_grid(samples, out);
  add_prefetches(samples, out);
  add_ramps(samples, out);
  add_eviction(samples, out);
  add_victims(samples, out);
  add_launches(samples, out);
  add_clocks(samples, out);
  return out.take();
}

}  // namespace preserve
