// SPDX-License-Identifier: Apache-2.0
#include "replay/calibrate/cpu.h"
#include "common/text.h"

#include <ctime>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>

#include "common/error.h"
#include "common/stats.h"
#include "common/units.h"
#include "replay/cpu/fetch_window.h"
#include "replay/cpu/tensor_memory.h"
#include "replay/ranks/spin.h"

namespace preserve {
namespace {

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kAllreduceBytes = 8 << 10;  // an activation of 2048 floats: a decode step's size
constexpr int64_t kLateNs = 50'000;  // long against an allreduce, short against a time slice
constexpr int kPhases = 5;

// Slices of an arena, last touched several cache sizes of traffic ago.
class ColdMemory {
 public:
  explicit ColdMemory(int64_t bytes) : memory_(bytes) {}
  const std::byte* next(int64_t bytes) {
    if (at_ + bytes > memory_.bytes()) at_ = 0;
    const std::byte* slice = memory_.data() + at_;
    at_ += bytes;
    return slice;
  }

 private:
  TensorMemory memory_;
  int64_t at_ = 0;
};

int64_t arena_bytes(int64_t cache_bytes, int ranks) {
  return std::max({3 * cache_bytes, 8 * cache_bytes / ranks, 128 * kMiB});
}

class CpuCalibration {
 public:
  CpuCalibration(const Ranks& ranks, const HostCores& host, const CalibrateOptions& options);
  CalibrationSamples run();

 private:
  struct Candidate {
    MethodSamples samples;
    FetchFunction fetch = nullptr;
    bool on_spare = false;
  };

  void measure_consumer();
  void measure_methods();
  void measure_survival();
  void measure_collectives();
  void measure_windows();
  void repeat(int factor, const std::function<void()>& trial) const;
  size_t best_method() const;
  std::optional<int> spare_cpu() const;
  double time(const std::function<void()>& body) const;  // all ranks start together
  double time_read(const std::byte* begin, int64_t bytes);
  double time_fetch(const Candidate& method, const std::byte* begin, int64_t bytes);
  void gather(std::vector<double>& values) const { values = ranks_.gather(values); }

  const Ranks& ranks_;
  CalibrateOptions options_;
  CalibrationSamples samples_;
  std::vector<Candidate> candidates_;
  std::unique_ptr<WindowFetcher> own_;    // from measure_methods() on
  std::unique_ptr<WindowFetcher> spare_;  // while methods are compared
  Consumer consumer_;
  ColdMemory cold_;
  uint64_t checksum_ = 0;
};

CpuCalibration::CpuCalibration(const Ranks& ranks, const HostCores& host,
                               const CalibrateOptions& options)
    : ranks_(ranks), options_(options), cold_(arena_bytes(host.cache_bytes, ranks.size_on_host())) {
  samples_.host = host;
  samples_.ranks = ranks.size_on_host();
  // Beyond the core's private cache, well within its share of the common one.
  samples_.probe_bytes =
      std::max(host.cache_bytes / (4 * samples_.ranks),
               std::min(2 * host.private_cache_bytes, host.cache_bytes / (2 * samples_.ranks)));
  samples_.probe_bytes = std::max<int64_t>(samples_.probe_bytes / 4096 * 4096, 64 << 10);
  for (const FetchMethod& method : kFetchMethods) {
    candidates_.push_back(
        {{std::string(method.name), "consumer", {}, {}, {}}, method.fetch, false});
    // All ranks have a spare core or none has: they must do the same.
    if (!spare_cpu()) continue;
    candidates_.push_back({{std::string(method.name), "spare", {}, {}, {}}, method.fetch, true});
  }
}

std::optional<int> CpuCalibration::spare_cpu() const {
  const std::vector<int>& cores = samples_.host.cores;
  const auto ranks = static_cast<size_t>(ranks_.size_on_host());
  if (2 * ranks > cores.size()) return std::nullopt;
  return cores[ranks + static_cast<size_t>(ranks_.rank_on_host())];
}

// Trials of one phase: as many as its share of the time allows, equally many on every rank.
void CpuCalibration::repeat(int factor, const std::function<void()>& trial) const {
  const int64_t end_ns = monotonic_ns() + options_.time_limit_ns / kPhases;
  for (int i = 0; i < factor * options_.most; ++i) {
    const bool enough = i >= factor * options_.least && monotonic_ns() >= end_ns;
    if (ranks_.from_first(enough ? 1 : 0) != 0) return;
    trial();
  }
}

double CpuCalibration::time(const std::function<void()>& body) const {
  ranks_.barrier();
  const int64_t start_ns = monotonic_ns();
  body();
  return static_cast<double>(monotonic_ns() - start_ns);
}

double CpuCalibration::time_read(const std::byte* begin, int64_t bytes) {
  const int64_t start_ns = monotonic_ns();
  checksum_ += consumer_.read_weights(begin, bytes);
  return static_cast<double>(monotonic_ns() - start_ns);
}

double CpuCalibration::time_fetch(const Candidate& method, const std::byte* begin, int64_t bytes) {
  const FetchSlice slice{begin, bytes};
  if (!method.on_spare) {
    own_->use(method.fetch, samples_.chunk_bytes);
    // With a look at the clock after each chunk, as in a window: methods that need a run-up to be
    // fast do not get one.
    return time([&] {
      own_->begin({&slice, 1});
      while (own_->step()) monotonic_ns();
    });
  }
  spare_->use(method.fetch, samples_.chunk_bytes);
  return time([&] {
    spare_->begin({&slice, 1});
    spare_->wait();
  });
}

void CpuCalibration::measure_consumer() {
  const int64_t bytes = samples_.probe_bytes;
  repeat(1, [&] {
    const std::byte* slice = cold_.next(bytes);
    ranks_.barrier();
    samples_.cold_ns.push_back(time_read(slice, bytes));
    samples_.hot_ns.push_back(time_read(slice, bytes));
    slice = cold_.next(bytes);
    samples_.stream_ns.push_back(time([&] { checksum_ += Consumer::read_stream(slice, bytes); }));
    const std::byte* row = cold_.next(4096);
    time_read(row, 4096);
    samples_.floor_ns.push_back(time_read(row, 4096));
    samples_.test_ns.push_back(ranks_.test_cost_ns(1000));
  });
}

void CpuCalibration::measure_methods() {
  const int64_t bytes = samples_.probe_bytes;
  const double bandwidth = kNsPerS * static_cast<double>(bytes) / median(samples_.cold_ns);
  samples_.chunk_bytes = ranks_.from_first(chunk_bytes(median(samples_.test_ns), bandwidth));
  own_ = std::make_unique<WindowFetcher>(candidates_.front().fetch, samples_.chunk_bytes,
                                         std::nullopt);
  if (spare_cpu()) {
    spare_ = std::make_unique<WindowFetcher>(candidates_.front().fetch, samples_.chunk_bytes,
                                             spare_cpu());
  }
  repeat(1, [&] {
    // Interleaved: a disturbance of the machine hits all methods alike.
    for (Candidate& method : candidates_) {
      const std::byte* slice = cold_.next(bytes);
      method.samples.fetch_ns.push_back(time_fetch(method, slice, bytes));
      method.samples.read_ns.push_back(time_read(slice, bytes));
      const std::byte* line = cold_.next(4096);
      method.samples.latency_ns.push_back(time_fetch(method, line, kCacheLineBytes));
    }
  });
  spare_.reset();  // a spinning helper would disturb what follows
}

// The same choice on every rank: made by rank 0 from everybody's samples.
size_t CpuCalibration::best_method() const {
  CalibrationSamples all = samples_;
  for (const Candidate& method : candidates_) all.methods.push_back(method.samples);
  for (MethodSamples& method : all.methods) {
    gather(method.fetch_ns);
    gather(method.read_ns);
    gather(method.latency_ns);
  }
  gather(all.cold_ns);
  gather(all.test_ns);
  int64_t best = 0;
  if (ranks_.rank() == 0) {
    const auto ranked = rank_methods(all, all.probe_bytes);
    for (size_t i = 0; i < candidates_.size() && !ranked.empty(); ++i) {
      const MethodSamples& method = candidates_[i].samples;
      if (method.name == ranked.front().name && method.placement == ranked.front().placement) {
        best = static_cast<int64_t>(i);
      }
    }
  }
  return static_cast<size_t>(ranks_.from_first(best));
}

void CpuCalibration::measure_survival() {
  const Candidate& method = candidates_[best_method()];
  if (method.on_spare) {
    spare_ = std::make_unique<WindowFetcher>(method.fetch, samples_.chunk_bytes, spare_cpu());
  }
  const int64_t cache = samples_.host.cache_bytes;
  // Steps of at most a quarter; from 256 KiB (or a small cache's 32nd part) to 1.5 caches.
  for (int64_t bytes = std::min<int64_t>(256 << 10, cache / 32); bytes <= cache * 3 / 2;
       bytes += std::max<int64_t>(bytes / 4, 4096) / 4096 * 4096) {
    samples_.survival.push_back({bytes, {}, {}});
  }
  repeat(1, [&] {
    for (FootprintSamples& point : samples_.survival) {
      const std::byte* slice = cold_.next(point.bytes);
      ranks_.barrier();
      point.cold_ns.push_back(time_read(slice, point.bytes));
      slice = cold_.next(point.bytes);
      time_fetch(method, slice, point.bytes);
      ranks_.barrier();
      point.read_ns.push_back(time_read(slice, point.bytes));
    }
  });
  spare_.reset();
}

void CpuCalibration::measure_collectives() {
  for (const int64_t bytes : {1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10}) {
    const auto allreduce = ranks_.collective("allreduce", bytes);
    CollectiveSamples timed{bytes, {}};
    for (int i = 0; i < 2 * options_.most; ++i) {
      timed.dur_ns.push_back(time([&] { allreduce->run(); }));
    }
    samples_.allreduce.push_back(std::move(timed));
  }
}

// How much fetching delays a collective that this rank waits in: one rank comes late, in turn, and
// the others fetch meanwhile. What counts is when they are through, with and without fetching.
void CpuCalibration::measure_windows() {
  const Candidate& method = candidates_[best_method()];
  WindowFetcher fetcher(method.fetch, samples_.chunk_bytes,
                        method.on_spare ? spare_cpu() : std::nullopt);
  const auto allreduce = ranks_.collective("allreduce", kAllreduceBytes);
  samples_.window_bytes = 4 * kMiB / samples_.ranks;
  int trial = 0;
  repeat(4, [&] {
    samples_.post_ns.push_back(time([&] { allreduce->start(); }));
    SpinWait spin;
    while (!allreduce->test()) spin.again();
    const bool late = trial++ % ranks_.size() == ranks_.rank();
    const FetchSlice slice{cold_.next(samples_.window_bytes), samples_.window_bytes};
    int64_t fetched = 0;
    const auto window = [&](std::span<const FetchSlice> slices) {
      return time([&] {
        if (late) spin_until(monotonic_ns() + kLateNs);
        fetched = run_window(*allreduce, fetcher, slices, 0);
      });
    };
    samples_.null_window_ns.push_back(window({}));
    samples_.fetch_window_ns.push_back(window({&slice, 1}));
    samples_.fetched_bytes.push_back(static_cast<double>(fetched));
  });
}

CalibrationSamples CpuCalibration::run() {
  measure_consumer();
  measure_methods();
  measure_survival();
  if (ranks_.size() > 1) {  // one alone has no collectives
    measure_collectives();
    measure_windows();
  }
  for (Candidate& method : candidates_) samples_.methods.push_back(std::move(method.samples));
  for (MethodSamples& method : samples_.methods) {
    gather(method.fetch_ns);
    gather(method.read_ns);
    gather(method.latency_ns);
  }
  for (FootprintSamples& point : samples_.survival) {
    gather(point.cold_ns);
    gather(point.read_ns);
  }
  for (CollectiveSamples& timed : samples_.allreduce) gather(timed.dur_ns);
  for (std::vector<double>* values :
       {&samples_.stream_ns, &samples_.cold_ns, &samples_.hot_ns, &samples_.floor_ns,
        &samples_.test_ns, &samples_.post_ns, &samples_.null_window_ns, &samples_.fetch_window_ns,
        &samples_.fetched_bytes}) {
    gather(*values);
  }
  samples_.mpi_library = ranks_.library();
  const std::time_t now = std::time(nullptr);
  char date[32] = {};
  std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
  samples_.date = date;
  asm volatile("" : : "r"(checksum_));  // what was read was wanted
  return std::move(samples_);
}

}  // namespace

CalibrationSamples measure_cpu(const Ranks& ranks, const CalibrateOptions& options) {
  if (ranks.size() != ranks.size_on_host()) {
    throw input_error("calibration runs on one host, but its {} are on several",
                      count_of(ranks.size(), "rank"));
  }
  const HostCores host = find_host_cores();
  if (host.cache_bytes <= 0) {
    throw input_error("hwloc finds no data cache on {}; there is nothing to prefetch into",
                      host.cpu_name);
  }
  const int64_t needed = arena_bytes(host.cache_bytes, ranks.size()) * ranks.size();
  if (needed > available_memory_bytes()) {
    throw input_error("calibrating {} needs {} of memory, {} are free; use fewer --ranks",
                      count_of(ranks.size(), "rank"), format_size(needed),
                      format_size(available_memory_bytes()));
  }
  ranks.barrier();  // everybody has looked at the free memory before anybody takes some
  pin_this_thread(host.cores[static_cast<size_t>(ranks.rank_on_host()) % host.cores.size()]);
  return CpuCalibration(ranks, host, options).run();
}

}  // namespace preserve
