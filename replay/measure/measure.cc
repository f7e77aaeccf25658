// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/measure.h"

#include <algorithm>
#include <map>
#include <set>

#include "common/error.h"

namespace preserve {
namespace {

// A probe this much slower than the median one ran at another clock (or shared its core).
constexpr double kThrottledProbe = 1.15;
// An interruption that costs less than this is like any other noise, and trimming it would bias.
constexpr double kDisturbed = 1.05;
// Looking often stops early by luck.
constexpr int kPassesBetweenLooks = 4;
constexpr int kMostStepsPerSample = 64;

// Counted step times by pass for one arm; 0 where there is none.
std::vector<double> counted_by_pair(const std::vector<MeasuredSample>& samples, size_t arm) {
  std::vector<double> by_pair;
  for (const MeasuredSample& sample : samples) {
    if (sample.arm != arm || !sample.discarded.empty()) continue;
    const auto pair = static_cast<size_t>(sample.pair);
    if (by_pair.size() <= pair) by_pair.resize(pair + 1, 0.0);
    by_pair[pair] = static_cast<double>(sample.value.step_ns);
  }
  return by_pair;
}

std::vector<double> paired_ratios(const std::vector<double>& baseline,
                                  const std::vector<double>& arm) {
  std::vector<double> ratios;
  for (size_t pair = 0; pair < std::min(baseline.size(), arm.size()); ++pair) {
    if (baseline[pair] > 0 && arm[pair] > 0) ratios.push_back(baseline[pair] / arm[pair]);
  }
  return ratios;
}

// The first two arms are what the measurement is about; without either a pass has no meaning.
void discard_unpaired(std::vector<MeasuredSample>& samples) {
  std::set<int> unpaired;
  for (const MeasuredSample& sample : samples) {
    if (sample.arm <= 1 && !sample.discarded.empty()) unpaired.insert(sample.pair);
  }
  for (MeasuredSample& sample : samples) {
    if (sample.discarded.empty() && unpaired.count(sample.pair) != 0) sample.discarded = "unpaired";
  }
}

bool mostly_interrupted(const std::vector<MeasuredSample>& samples) {
  const auto counts = [](const MeasuredSample& sample) { return sample.discarded.empty(); };
  const auto interrupted = [&](const MeasuredSample& sample) {
    return counts(sample) && sample.value.interrupted;
  };
  return 2 * std::ranges::count_if(samples, interrupted) > std::ranges::count_if(samples, counts);
}

int steps_for(const ArmSample& first, int64_t sample_ns) {
  const int64_t step_ns = std::max<int64_t>(first.step_ns, 1);
  return static_cast<int>(std::clamp<int64_t>(sample_ns / step_ns, 1, kMostStepsPerSample));
}

}  // namespace

std::vector<size_t> pass_order(int pass, size_t arms) {
  std::vector<size_t> order(arms);
  const auto row = static_cast<size_t>(pass / 2);
  for (size_t i = 0; i < arms; ++i) {
    const size_t zigzag = i % 2 == 1 ? (i + 1) / 2 : arms - i / 2;  // 0 1 n-1 2 n-2 ...
    order[i] = (row + zigzag) % arms;
  }
  if (pass % 2 == 1) std::ranges::reverse(order);
  return order;
}

void discard_samples(std::vector<MeasuredSample>& samples) {
  if (samples.empty()) throw internal_error("no samples to judge");
  std::vector<double> probes;
  std::map<size_t, std::vector<double>> step_ns;
  for (const MeasuredSample& sample : samples) {
    if (sample.pair == 0) continue;
    probes.push_back(static_cast<double>(sample.value.probe_ns));
    step_ns[sample.arm].push_back(static_cast<double>(sample.value.step_ns));
  }
  std::map<size_t, double> usual_ns;
  for (const auto& [arm, values] : step_ns) usual_ns[arm] = median(values);
  const double usual_probe_ns = probes.empty() ? 0 : median(probes);
  for (MeasuredSample& sample : samples) {
    const auto took_ns = static_cast<double>(sample.value.step_ns);
    const auto probe_ns = static_cast<double>(sample.value.probe_ns);
    if (sample.pair == 0) {
      sample.discarded = "warm-up";
    } else if (sample.value.interrupted && took_ns > kDisturbed * usual_ns[sample.arm]) {
      sample.discarded = "interrupted";
    } else if (probe_ns > kThrottledProbe * usual_probe_ns ||
               (sample.value.throttled && took_ns > kDisturbed * usual_ns[sample.arm])) {
      sample.discarded = "throttled";
    } else {
      sample.discarded.clear();
    }
  }
  discard_unpaired(samples);
}

std::vector<ArmResult> evaluate(const std::vector<MeasuredSample>& samples,
                                const std::vector<std::string>& arms,
                                const MeasureOptions& options) {
  const std::vector<double> baseline = counted_by_pair(samples, 0);
  std::vector<ArmResult> results;
  for (size_t arm = 0; arm < arms.size(); ++arm) {
    ArmResult& result = results.emplace_back();
    result.name = arms[arm];
    const std::vector<double> by_pair = counted_by_pair(samples, arm);
    std::vector<double> counted;
    std::ranges::copy_if(by_pair, std::back_inserter(counted),
                         [](double step_ns) { return step_ns > 0; });
    result.counted = static_cast<int64_t>(counted.size());
    result.step_ns = estimated_median(counted, options.level);
    const std::vector<double> ratios = paired_ratios(baseline, by_pair);
    result.pairs = static_cast<int64_t>(ratios.size());
    if (arm > 0) result.speedup = estimated_median(ratios, options.level);
  }
  return results;
}

ReplayResult judge(const std::vector<MeasuredSample>& samples, const std::vector<std::string>& arms,
                   const MeasureOptions& options) {
  ReplayResult result;
  result.confidence_level = options.level;
  result.arms = evaluate(samples, arms, options);
  result.busy = mostly_interrupted(samples);
  const auto arm_named = [&](std::string_view name) {
    return static_cast<size_t>(std::ranges::find(arms, name) - arms.begin());
  };
  const size_t prefetch = arm_named(kPrefetchArm), overlap = arm_named("overlap");
  if (prefetch == arms.size()) return result;
  const std::optional<Estimated>& speedup = result.arms[prefetch].speedup;
  const std::optional<Interval> interval = speedup ? speedup->interval() : std::nullopt;
  if (interval && !result.busy) result.verdict = judge_speedup(*interval);
  result.overlap_ratio = estimated_median(
      paired_ratios(counted_by_pair(samples, overlap), counted_by_pair(samples, prefetch)),
      options.level);
  return result;
}

// All arms whose speed decides something: the plan and its rivals, not the explaining arms.
bool StoppingRule::precise(const std::vector<ArmResult>& results) const {
  return std::ranges::all_of(results, [&](const ArmResult& arm) {
    if (!arm.is_plan()) return true;
    const Interval interval = arm.paired_speedup().interval;
    return arm.pairs >= options_.min_pairs &&
           (interval.high - interval.low) / 2 <= options_.precision * interval.estimate;
  });
}

std::string StoppingRule::after_pass(bool time_is_up,
                                     const std::function<std::vector<ArmResult>()>& look) {
  ++passes_;
  if (passes_ >= options_.max_pairs) return "pair-limit";
  // A second pass always runs: the first one only warms up.
  if (time_is_up && passes_ >= 2) return "time-limit";
  const bool look_is_due = passes_ > options_.min_pairs && passes_ % kPassesBetweenLooks == 0;
  return look_is_due && precise(look()) ? "precise" : "";
}

Measurement measure(Executor& executor, const MeasureOptions& options,
                    const std::function<int64_t()>& clock,
                    const std::function<void(double)>& progress) {
  const std::vector<std::string>& arms = executor.arms();
  if (arms.size() < 2) throw internal_error("nothing to compare the baseline with");
  std::vector<MeasuredSample> samples;
  const int64_t start_ns = clock();
  const int steps_per_sample = steps_for(executor.run(0, 1), options.sample_ns);
  StoppingRule rule(options);
  std::string stop_reason;
  while (stop_reason.empty()) {
    const int pass = rule.passes();
    const std::vector<size_t> order = pass_order(pass, arms.size());
    for (size_t position = 0; position < order.size(); ++position) {
      MeasuredSample sample{order[position], pass, static_cast<int>(position), {}, {}};
      sample.value = executor.run(sample.arm, steps_per_sample);
      samples.push_back(std::move(sample));
    }
    const auto spent_ns = static_cast<double>(clock() - start_ns);
    const double part = spent_ns / static_cast<double>(std::max<int64_t>(options.time_limit_ns, 1));
    if (progress) progress(part);
    stop_reason = rule.after_pass(executor.agree(part >= 1), [&] {
      discard_samples(samples);
      return evaluate(samples, arms, options);
    });
  }
  discard_samples(samples);
  Measurement measurement{{}, judge(samples, arms, options)};
  measurement.samples = std::move(samples);
  measurement.result.passes = rule.passes();
  measurement.result.steps_per_sample = steps_per_sample;
  measurement.result.stop_reason = stop_reason;
  return measurement;
}

}  // namespace preserve
