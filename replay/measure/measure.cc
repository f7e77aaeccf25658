// SPDX-License-Identifier: Apache-2.0
#include "replay/measure/measure.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "common/error.h"

namespace preserve {
namespace {

// A probe this much slower than the median one ran at another clock (or shared its core).
constexpr double kThrottledProbe = 1.15;
// An interruption that costs less than this is like any other noise, and trimming it would bias.
constexpr double kDisturbed = 1.05;
// Looking costs a bootstrap, and looking often stops early by luck.
constexpr int kPassesBetweenLooks = 4;
constexpr int kMostStepsPerSample = 64;
constexpr int kResamplesOfLook = 500;

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

// All arms whose speed decides something: the plan and its rivals, not the explaining arms.
bool precise(const std::vector<ArmResult>& results, const MeasureOptions& options) {
  for (const ArmResult& result : results) {
    if (result.name.rfind("prefetch", 0) != 0) continue;
    const double half_width = (result.speedup.high - result.speedup.low) / 2;
    if (result.pairs < options.min_pairs ||
        half_width > options.precision * result.speedup.estimate) {
      return false;
    }
  }
  return true;
}

// The first two arms are what the measurement is about; without either a pass says nothing of it.
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
  size_t counted = 0;
  size_t interrupted = 0;
  for (const MeasuredSample& sample : samples) {
    if (!sample.discarded.empty()) continue;
    ++counted;
    if (sample.value.interrupted) ++interrupted;
  }
  return 2 * interrupted > counted;
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
  if (pass % 2 == 1) std::reverse(order.begin(), order.end());
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
    ArmResult result{arms[arm], 0, 0, {1, 1, 1}, 0};
    const std::vector<double> mine = counted_by_pair(samples, arm);
    std::vector<double> counted;
    std::copy_if(mine.begin(), mine.end(), std::back_inserter(counted),
                 [](double step_ns) { return step_ns > 0; });
    result.counted = static_cast<int>(counted.size());
    if (!counted.empty()) result.median_ns = median(counted);
    const std::vector<double> ratios = paired_ratios(baseline, mine);
    result.pairs = static_cast<int>(ratios.size());
    if (arm > 0 && !ratios.empty()) {
      result.speedup = bootstrap_median(ratios, options.level, kResamplesOfLook, options.seed);
    }
    results.push_back(std::move(result));
  }
  return results;
}

Measurement measure(Executor& executor, const MeasureOptions& options,
                    const std::function<int64_t()>& clock,
                    const std::function<void(double)>& progress) {
  const std::vector<std::string>& arms = executor.arms();
  if (arms.size() < 2) throw internal_error("nothing to compare the baseline with");
  Measurement result;
  const int64_t start_ns = clock();
  result.steps_per_sample = steps_for(executor.run(0, 1), options.sample_ns);
  while (result.stop_reason.empty()) {
    const std::vector<size_t> order = pass_order(result.pairs, arms.size());
    for (size_t position = 0; position < order.size(); ++position) {
      MeasuredSample sample{order[position], result.pairs, static_cast<int>(position), {}, {}};
      sample.value = executor.run(sample.arm, result.steps_per_sample);
      result.samples.push_back(std::move(sample));
    }
    ++result.pairs;
    const auto spent_ns = static_cast<double>(clock() - start_ns);
    const double part = spent_ns / static_cast<double>(std::max<int64_t>(options.time_limit_ns, 1));
    if (progress) progress(part);
    const bool look = result.pairs > options.min_pairs && result.pairs % kPassesBetweenLooks == 0;
    if (look) {
      discard_samples(result.samples);
      if (precise(evaluate(result.samples, arms, options), options)) result.stop_reason = "precise";
    }
    // A second pass always runs: the first one only warms up.
    if (executor.agree(part >= 1) && result.pairs >= 2) result.stop_reason = "time-limit";
    if (result.pairs >= options.max_pairs) result.stop_reason = "pair-limit";
  }
  discard_samples(result.samples);
  result.arms = evaluate(result.samples, arms, options);
  result.interrupted_kept = mostly_interrupted(result.samples);
  const bool decides = result.arms[1].pairs >= kFewestPairs && !result.interrupted_kept;
  result.verdict = decides ? judge_speedup(result.arms[1].speedup) : Verdict::ambiguous;
  return result;
}

}  // namespace preserve
