// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/on_ranks.h"

#include <fmt/format.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/stats.h"

namespace preserve {
namespace {

constexpr size_t kFirstSample = 1;  // measure() starts with one run to size the samples

// Median and spread of every operator of this rank, arm by arm, then all ranks' on rank 0.
OpTimes gather_op_times(const Ranks& ranks, const RankExecutor& executor,
                        const Measurement& measurement) {
  OpTimes times;
  times.arms = measurement.result.arms.size();
  times.ranks = static_cast<size_t>(ranks.size());
  times.ops = executor.program().ops.size();
  std::vector<double> mine;
  for (size_t arm = 0; arm < times.arms; ++arm) {
    for (size_t op = 0; op < times.ops; ++op) {
      std::vector<double> values;
      for (size_t i = 0; i < measurement.samples.size(); ++i) {
        const MeasuredSample& sample = measurement.samples[i];
        if (sample.arm != arm || !sample.discarded.empty()) continue;
        values.push_back(static_cast<double>(executor.op_ns(kFirstSample + i)[op]));
      }
      mine.push_back(values.empty() ? 0 : median(values));
      mine.push_back(values.empty() ? 0 : median_abs_deviation(values));
    }
  }
  const std::vector<double> all = ranks.gather(mine);
  std::vector<double> recorded;
  for (const ProgramOp& op : executor.program().ops) {
    recorded.push_back(static_cast<double>(op.dur_ns));
  }
  times.recorded_ns = ranks.gather(recorded);
  if (ranks.rank() != 0) return times;
  times.times.resize(times.arms * times.ranks * times.ops);
  for (size_t rank = 0; rank < times.ranks; ++rank) {
    for (size_t arm = 0; arm < times.arms; ++arm) {
      for (size_t op = 0; op < times.ops; ++op) {
        const size_t from = rank * mine.size() + 2 * (arm * times.ops + op);
        times.times[(arm * times.ranks + rank) * times.ops + op] = {all[from], all[from + 1]};
      }
    }
  }
  return times;
}

std::vector<std::vector<OpInterval>> gather_steps(const Ranks& ranks,
                                                  const RankExecutor& executor) {
  const size_t arms = executor.arms().size();
  const size_t ops = executor.program().ops.size();
  std::vector<double> mine;
  for (size_t arm = 0; arm < arms; ++arm) {
    for (const OpInterval& interval : executor.last_step(arm)) {
      mine.push_back(static_cast<double>(interval.start_ns));  // below 2^53 ns: exact for 104 days
      mine.push_back(static_cast<double>(interval.end_ns));
    }
  }
  const std::vector<double> all = ranks.gather(mine);
  std::vector<std::vector<OpInterval>> steps;
  for (size_t at = 0; at < all.size(); at += 2 * ops) {
    std::vector<OpInterval> step;
    for (size_t op = 0; op < ops; ++op) {
      step.push_back(
          {static_cast<int64_t>(all[at + 2 * op]), static_cast<int64_t>(all[at + 2 * op + 1])});
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

double mean_fetched_bytes(const RankExecutor& executor, const Measurement& measurement,
                          size_t arm) {
  double bytes = 0;
  int64_t counted = 0;
  for (size_t i = 0; i < measurement.samples.size(); ++i) {
    if (measurement.samples[i].arm != arm || !measurement.samples[i].discarded.empty()) continue;
    bytes += static_cast<double>(executor.fetched_bytes(kFirstSample + i));
    ++counted;
  }
  return counted == 0 ? 0 : bytes / static_cast<double>(counted);
}

}  // namespace

ReplayRecord measure_on_ranks(const Ranks& ranks, RankExecutor& executor, const ReplayJob& job,
                              const std::string& host, const MeasureOptions& options) {
  ReplayRecord record;
  Measurement measurement = measure(executor, options, monotonic_ns);
  record.op_times = gather_op_times(ranks, executor, measurement);
  record.steps = gather_steps(ranks, executor);
  record.hosts = ranks.all_texts(host);
  for (const std::string& pid : ranks.all_texts(std::to_string(::getpid()))) {
    record.pids.push_back(std::stoll(pid));
  }
  for (size_t arm = 0; arm < executor.arms().size(); ++arm) {
    const double mine = mean_fetched_bytes(executor, measurement, arm);
    const int64_t all = ranks.sum(static_cast<int64_t>(mine));
    measurement.result.arms[arm].issued_bytes = static_cast<double>(all) / ranks.size();
  }
  if (ranks.rank() != 0) return record;
  record.samples = std::move(measurement.samples);
  record.result = std::move(measurement.result);
  record.result.ranks = ranks.size();
  record.result.warnings = job.warnings;
  add_outcome(record.op_times, job.program, job.arms[1], job.schedule, job.recorded_step_ns,
              record.result);
  record.meta["checksum"] = fmt::format("{:016x}", record.samples.front().value.checksum);
  return record;
}

}  // namespace preserve
