// SPDX-License-Identifier: Apache-2.0
#include "replay/calibrate/cpu.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <set>

#include "common/error.h"
#include "common/stats.h"
#include "common/text.h"
#include "common/units.h"
#include "replay/calibrate/stability.h"
#include "replay/cpu/core_use.h"
#include "replay/cpu/fetch_window.h"
#include "replay/cpu/tensor_memory.h"
#include "replay/ranks/spin.h"

namespace preserve {
namespace {

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kAllreduceBytes = 8 << 10;  // an activation of 2048 floats: a decode step's size
// How late a rank comes: two lengths make a line.
constexpr int64_t kLateNs[] = {20'000, 80'000};
constexpr int64_t kWindowBytes = 4 * kMiB;  // more than any of these windows fetches
constexpr int kWindowsPerRound = 4;
constexpr int kCollectivesPerRound = 4;
constexpr int kTrialRounds = 40;  // that choose the chunk and the method of the survival curve
constexpr int kFewestRounds = 4;
constexpr double kAgreement = 0.5;  // of the halves, of what the verdict allows
constexpr int kHotReads = 8;        // in a row
// Footprints of this and more take turns, so that a round stays short.
constexpr int64_t kLargeBytes = 16 * kMiB;
constexpr int64_t kMostTurns = 8;
constexpr int kLooks = 200;
// Stands for none: this rank was the late one, or lost its core.
constexpr double kNoSample = -1e300;

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

// All ranks go through theirs at the same time: together they read the cache four times over, at
// least, before they come back.
int64_t arena_bytes(int64_t cache_bytes, int ranks) {
  return std::max(2 * cache_bytes + 2 * cache_bytes / ranks, 128 * kMiB);
}

class CpuCalibration {
 public:
  CpuCalibration(const Ranks& ranks, const HostCores& host, const CalibrateOptions& options);
  std::vector<CalibrationSamples> run();

 private:
  struct Candidate {
    FetchFunction fetch = nullptr;
    bool on_spare = false;
  };

  void choose_chunk();
  void choose_survivor();
  void time_consumer();
  void time_methods();
  void time_footprints(int number);
  void time_collectives();
  void time_windows(int number);
  void finish_round();
  CalibrationSamples round_of(const std::string& host, const std::vector<double>& all,
                              size_t per_rank) const;
  bool measured_enough(int64_t spent_ns);
  std::optional<int> spare_cpu() const;
  // A negative time: the rank lost its core meanwhile.
  double time(const std::function<void()>& body) const;
  double time_together(const std::function<void()>& body) const;  // all ranks start together
  double time_read(const std::byte* begin, int64_t bytes);
  double time_fetch(size_t method, const std::byte* begin, int64_t bytes);

  const Ranks& ranks_;
  CalibrateOptions options_;
  std::vector<std::string> hosts_;          // of each rank
  CalibrationSamples round_;                // the running one, of this rank
  std::vector<CalibrationSamples> rounds_;  // on rank 0, of all ranks, by host
  std::vector<Candidate> candidates_;       // as in round_.methods
  std::unique_ptr<WindowFetcher> own_, spare_;
  std::vector<std::unique_ptr<RankCollective>> allreduce_;
  std::unique_ptr<RankCollective> late_allreduce_;
  WindowVia via_ = WindowVia::convert;
  Consumer consumer_;
  ColdMemory cold_;
  uint64_t checksum_ = 0;
  int64_t periods_asked_ = 0;
};

CpuCalibration::CpuCalibration(const Ranks& ranks, const HostCores& host,
                               const CalibrateOptions& options)
    : ranks_(ranks),
      options_(options),
      hosts_(ranks.all_texts(host.host)),
      cold_(arena_bytes(host.cache_bytes, ranks.size_on_host())) {
  round_.host = host;
  round_.ranks = ranks.size_on_host();
  round_.all_ranks = ranks.size();
  round_.probe_bytes = probe_bytes(host, round_.ranks);
  round_.mpi_library = ranks.library();
  round_.date = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)));
  // All ranks have a spare core or none has: they must do the same.
  const bool has_spare = ranks.min(spare_cpu() ? 1 : 0) == 1;
  for (const FetchMethod& method : kFetchMethods) {
    for (const char* placement : {"consumer", "spare"}) {
      const bool on_spare = std::string_view(placement) == "spare";
      if (on_spare && !has_spare) continue;
      round_.methods.push_back({std::string(method.name), placement, {}, {}, {}});
      candidates_.push_back({method.fetch, on_spare});
    }
  }
  for (const int64_t bytes : footprints(host, round_.ranks)) {
    round_.survival.push_back({bytes, {}, {}});
  }
  if (ranks.size() == 1) return;  // no collectives
  for (const int64_t bytes : {1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10}) {
    round_.allreduce.push_back({bytes, {}});
    allreduce_.push_back(ranks.collective("allreduce", bytes));
  }
  late_allreduce_ = ranks.collective("allreduce", kAllreduceBytes);
  for (const int64_t late_ns : kLateNs) round_.windows.push_back({late_ns, {}, {}});
  if (ranks.min(find_progress_engine().found() ? 1 : 0) == 1) via_ = WindowVia::progress;
  round_.via = to_string(via_);
}

std::optional<int> CpuCalibration::spare_cpu() const {
  const std::vector<int>& cores = round_.host.cores;
  const auto ranks = static_cast<size_t>(ranks_.size_on_host());
  if (2 * ranks > cores.size()) return std::nullopt;
  return cores[ranks + static_cast<size_t>(ranks_.rank_on_host())];
}

double CpuCalibration::time(const std::function<void()>& body) const {
  const CoreUse before = core_use();
  const int64_t start_ns = monotonic_ns();
  body();
  const auto dur_ns = static_cast<double>(std::max<int64_t>(monotonic_ns() - start_ns, 1));
  return lost_core(before, core_use()) ? -dur_ns : dur_ns;
}

double CpuCalibration::time_together(const std::function<void()>& body) const {
  ranks_.barrier();
  return time(body);
}

double CpuCalibration::time_read(const std::byte* begin, int64_t bytes) {
  return time([&] { checksum_ += consumer_.read_weights(begin, bytes); });
}

double CpuCalibration::time_fetch(size_t method, const std::byte* begin, int64_t bytes) {
  const FetchSlice slice{begin, bytes};
  const Candidate& way = candidates_[method];
  if (!way.on_spare) {
    own_->use(way.fetch, round_.chunk_bytes);
    // With a look at the clock after each chunk, as in a window: methods that need a run-up to be
    // fast do not get one.
    return time_together([&] {
      own_->begin({&slice, 1});
      while (own_->step()) monotonic_ns();
    });
  }
  spare_->use(way.fetch, round_.chunk_bytes);
  return time_together([&] {
    spare_->begin({&slice, 1});
    spare_->wait();
  });
}

void CpuCalibration::time_consumer() {
  const int64_t bytes = round_.probe_bytes;
  const std::byte* slice = cold_.next(bytes);
  ranks_.barrier();
  round_.cold_ns.push_back(time_read(slice, bytes));
  // What else uses the core (on a virtual machine its other half may be another guest's) comes and
  // goes in milliseconds and can halve this rate: the fastest of some in a row is a reading
  // without.
  double hot_ns = time_read(slice, bytes);
  for (int i = 1; i < kHotReads; ++i) {
    const double read_ns = time_read(slice, bytes);
    if (read_ns > 0 && (hot_ns < 0 || read_ns < hot_ns)) hot_ns = read_ns;
  }
  round_.hot_ns.push_back(hot_ns);
  slice = cold_.next(bytes);
  round_.stream_ns.push_back(
      time_together([&] { checksum_ += Consumer::read_stream(slice, bytes); }));
  const std::byte* row = cold_.next(4096);
  time_read(row, 4096);
  round_.floor_ns.push_back(time_read(row, 4096));
  round_.clock_ns.push_back(static_cast<double>(clock_probe_ns()));
  round_.test_ns.push_back(ranks_.test_cost_ns(kLooks));
}

void CpuCalibration::time_methods() {
  const int64_t bytes = round_.probe_bytes;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    MethodSamples& method = round_.methods[i];
    // The helper spins: it exists only while its methods are measured.
    if (candidates_[i].on_spare && !spare_) {
      spare_ =
          std::make_unique<WindowFetcher>(candidates_[i].fetch, round_.chunk_bytes, spare_cpu());
    }
    const std::byte* slice = cold_.next(bytes);
    method.fetch_ns.push_back(time_fetch(i, slice, bytes));
    method.read_ns.push_back(time_read(slice, bytes));
    method.latency_ns.push_back(time_fetch(i, cold_.next(4096), kCacheLineBytes));
  }
  spare_.reset();
}

// With what is short between the footprints: a round is long by the large ones, and what disturbs
// the short ones comes and goes meanwhile.
void CpuCalibration::time_footprints(int number) {
  for (FootprintSamples& point : round_.survival) {
    time_consumer();
    time_methods();
    const int64_t turns = std::clamp<int64_t>(point.bytes / kLargeBytes, 1, kMostTurns);
    if (number % turns != 0) continue;
    if (candidates_[round_.survivor].on_spare) {
      spare_ = std::make_unique<WindowFetcher>(candidates_[round_.survivor].fetch,
                                               round_.chunk_bytes, spare_cpu());
    }
    const std::byte* slice = cold_.next(point.bytes);
    ranks_.barrier();
    point.cold_ns.push_back(time_read(slice, point.bytes));
    slice = cold_.next(point.bytes);
    time_fetch(round_.survivor, slice, point.bytes);
    ranks_.barrier();
    point.read_ns.push_back(time_read(slice, point.bytes));
    spare_.reset();
  }
}

void CpuCalibration::time_collectives() {
  for (size_t i = 0; i < allreduce_.size(); ++i) {
    for (int repeat = 0; repeat < kCollectivesPerRound; ++repeat) {
      round_.allreduce[i].dur_ns.push_back(time_together([&] { allreduce_[i]->run(); }));
    }
  }
}

// How much fetching delays a collective that this rank waits in: one rank comes late, in turn, and
// the others fetch meanwhile. What counts is when they are through, compared with the call as the
// program makes it.
void CpuCalibration::time_windows(int number) {
  round_.post_ns.push_back(time_together([&] { late_allreduce_->start(); }));
  if (via_ == WindowVia::progress) round_.post_ns.back() = 1;  // an unchanged call is not posted
  SpinWait spin;
  while (!late_allreduce_->test()) spin.again();
  // Always the same kind of core: a helper would have to be started for every window.
  WindowFetcher& fetcher = *own_;
  const Candidate& way = candidates_[round_.survivor];
  fetcher.use(way.fetch, round_.chunk_bytes);
  std::optional<ProgressTurns> turns;
  if (via_ == WindowVia::progress) turns.emplace(find_progress_engine());
  for (int repeat = 0; repeat < kWindowsPerRound; ++repeat) {
    const bool late = (number + repeat) % ranks_.size() == ranks_.rank();
    for (WindowSamples& window : round_.windows) {
      const auto come_late = [&] {
        if (late) spin_until(monotonic_ns() + window.late_ns);
      };
      const double plain_ns = time_together([&] {
        come_late();
        late_allreduce_->run();
      });
      const FetchSlice slice{cold_.next(kWindowBytes), kWindowBytes};
      int64_t fetched = 0;
      const double filled_ns = time_together([&] {
        come_late();
        fetched = run_window(*late_allreduce_, fetcher, {&slice, 1}, 0, via_);
      });
      const bool counts = !late && fetched > 0 && plain_ns > 0 && filled_ns > 0;
      window.added_ns.push_back(counts ? filled_ns - plain_ns : kNoSample);
      window.fetched_bytes.push_back(counts ? static_cast<double>(fetched) : kNoSample);
    }
  }
}

// Rank 0 takes over what all ranks have measured, as a round of each host, and everybody begins
// anew.
void CpuCalibration::finish_round() {
  std::vector<double> mine;
  each_series(round_, [&](std::vector<double>& series, SeriesKind) {
    mine.insert(mine.end(), series.begin(), series.end());
  });
  const std::vector<double> all = ranks_.gather(mine);
  if (ranks_.rank() == 0) {
    for (const std::string& host : std::set(hosts_.begin(), hosts_.end())) {
      rounds_.push_back(round_of(host, all, mine.size()));
    }
  }
  each_series(round_, [](std::vector<double>& series, SeriesKind) { series.clear(); });
}

// What the ranks of one host have measured, of `all` samples, `per_rank` of each.
CalibrationSamples CpuCalibration::round_of(const std::string& host, const std::vector<double>& all,
                                            size_t per_rank) const {
  CalibrationSamples round = round_;
  round.host.host = host;
  size_t at = 0;
  each_series(round, [&](std::vector<double>& series, SeriesKind kind) {
    const size_t count = series.size();
    series.clear();
    std::vector<double> interrupted;
    for (size_t rank = 0; rank < hosts_.size(); ++rank) {
      if (hosts_[rank] != host) continue;
      for (size_t i = 0; i < count; ++i) {
        const double value = all[rank * per_rank + at + i];
        if (value == kNoSample) continue;
        ++round.taken;
        (value > 0 || kind == SeriesKind::window ? series : interrupted).push_back(value);
      }
    }
    at += count;
    round.interrupted += static_cast<int64_t>(interrupted.size());
    // The fastest tenth of all rounds will not be among them, unless nothing else was measured.
    if (!series.empty() || kind != SeriesKind::needed) return;
    for (const double value : interrupted) series.push_back(-value);
  });
  return round;
}

// The same on every rank: rank 0 decides from everybody's samples.
void CpuCalibration::choose_chunk() {
  for (int i = 0; i < kTrialRounds; ++i) {
    time_consumer();
    finish_round();
  }
  int64_t chunk = 0;
  if (ranks_.rank() == 0) {
    const CalibrationSamples trial = pooled(rounds_);
    const double cold_ns = quantile(trial.cold_ns, 0.1);
    chunk = chunk_bytes(median(trial.test_ns),
                        kNsPerS * static_cast<double>(trial.probe_bytes) / cold_ns);
  }
  round_.chunk_bytes = ranks_.from_first(chunk);
  rounds_.clear();
}

void CpuCalibration::choose_survivor() {
  for (int i = 0; i < kTrialRounds; ++i) {
    time_consumer();
    time_methods();
    finish_round();
  }
  int64_t best = 0;
  if (ranks_.rank() == 0) {
    const CalibrationSamples trial = pooled(rounds_);
    const auto ranked = rank_methods(trial, trial.probe_bytes);
    for (size_t i = 0; i < trial.methods.size() && !ranked.empty(); ++i) {
      const MethodSamples& method = trial.methods[i];
      if (method.name == ranked.front().name && method.placement == ranked.front().placement) {
        best = static_cast<int64_t>(i);
      }
    }
  }
  round_.survivor = static_cast<size_t>(ranks_.from_first(best));
  rounds_.clear();
}

bool CpuCalibration::measured_enough(int64_t spent_ns) {
  bool enough = false;
  const size_t hosts = std::set(hosts_.begin(), hosts_.end()).size();
  if (ranks_.rank() == 0 && rounds_.size() >= kFewestRounds * hosts) {
    const int64_t periods = spent_ns / options_.time_limit_ns;
    enough = periods >= options_.longest;
    // Asked once per time limit: looking often would stop at the first lucky agreement. And more
    // strictly than for the verdict, for the next calibration is further away than a half is.
    if (!enough && periods > periods_asked_) {
      periods_asked_ = periods;
      const auto of_hosts = by_host(rounds_);
      enough = std::ranges::all_of(of_hosts, [](const auto& rounds) {
        return unsteady_reason(rounds, device_from(pooled(rounds)), kAgreement).empty();
      });
    }
  }
  return ranks_.from_first(enough ? 1 : 0) != 0;
}

std::vector<CalibrationSamples> CpuCalibration::run() {
  const int64_t start_ns = monotonic_ns();
  choose_chunk();
  own_ =
      std::make_unique<WindowFetcher>(candidates_.front().fetch, round_.chunk_bytes, std::nullopt);
  choose_survivor();
  int64_t spent_ns = 0;
  for (int number = 0; !measured_enough(spent_ns); ++number) {
    time_footprints(number);
    if (ranks_.size() > 1) {  // one alone has no collectives
      time_collectives();
      time_windows(number);
    }
    finish_round();
    spent_ns = monotonic_ns() - start_ns;
    if (options_.progress && ranks_.rank() == 0) options_.progress(spent_ns);
  }
  asm volatile("" : : "r"(checksum_));  // what was read was wanted
  return std::move(rounds_);
}

// All ranks take the same samples of the same sizes, at the same time.
void require_alike(const Ranks& ranks, const HostCores& host) {
  const std::string mine =
      fmt::format("{}, {} of {} cache, {}", count_of(ranks.size_on_host(), "rank"), host.cpu_name,
                  format_size(host.cache_bytes + host.private_cache_bytes),
                  count_of(static_cast<int64_t>(host.cores.size()), "usable core"));
  const std::vector<std::string> facts = ranks.all_texts(mine), hosts = ranks.all_texts(host.host);
  for (size_t rank = 1; rank < facts.size(); ++rank) {
    if (facts[rank] == facts[0]) continue;
    throw input_error(
        "hosts that are measured together must be alike, but {} has {}, and {} has {}: calibrate "
        "each by itself, with its own ranks",
        hosts[0], facts[0], hosts[rank], facts[rank]);
  }
}

}  // namespace

std::vector<CalibrationSamples> measure_cpu(const Ranks& ranks, const CalibrateOptions& options) {
  const HostCores host = find_host_cores();
  if (host.cache_bytes <= 0) {
    throw input_error("hwloc finds no data cache on {}; there is nothing to prefetch into",
                      host.cpu_name);
  }
  require_alike(ranks, host);
  const int on_host = ranks.size_on_host();
  const int64_t needed = arena_bytes(host.cache_bytes, on_host) * on_host;
  if (needed > available_memory_bytes()) {
    throw input_error("calibrating {} needs {} of memory, {} are free; use fewer --ranks",
                      count_of(on_host, "rank"), format_size(needed),
                      format_size(available_memory_bytes()));
  }
  ranks.barrier();  // everybody has looked at the free memory before anybody takes some
  pin_this_thread(host.cores[static_cast<size_t>(ranks.rank_on_host()) % host.cores.size()]);
  return CpuCalibration(ranks, host, options).run();
}

}  // namespace preserve
