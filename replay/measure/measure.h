// SPDX-License-Identifier: Apache-2.0
// The measurement: which arm runs when, which samples count, when it is enough, what the numbers
// mean. Knows nothing of processors or MPI; time and executor are parameters, so tests use fakes.
//
// A pass runs every arm once; its samples form a pair with that pass's baseline. The orders are
// those of a Williams design (1949), each followed by its reverse (ABBA with two arms): in the long
// run every arm takes every place and follows every other arm equally often, so neither a drift
// nor what an arm leaves in the cache favours one of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/stats.h"
#include "db/replay_result.h"
#include "replay/step/executor.h"

namespace preserve {

struct MeasureOptions {
  int64_t time_limit_ns = 15'000'000'000;
  int min_pairs = 12;  // counted ones; fewer make no interval worth the name
  int max_pairs = 400;
  double precision = 0.002;  // stop when the interval's half width is below this part of the ratio
  double level = 0.95;
  int64_t sample_ns = 10'000'000;  // steps per sample: as many as fill this
};

struct MeasuredSample {
  size_t arm = 0;
  int pair = 0, position = 0;
  ArmSample value;
  std::string discarded;  // empty: counted
};

struct Measurement {
  std::vector<MeasuredSample> samples;  // in order of execution
  ReplayResult result;                  // all that the samples alone decide
};

// Order of the arms in a pass.
std::vector<size_t> pass_order(int pass, size_t arms);

// Marks samples: the first pass is warm-up; a sample during which a rank lost its core (or shared
// its GPU) and that took 5 % longer than its arm's median was interrupted; a sample with a slow
// probe, or that long under clocks that the device says are held down, was throttled;
// a pass that lost its baseline or its prefetch sample that way is unpaired as a whole, so that
// both arms' times are those of the pairs that the speedup is of.
void discard_samples(std::vector<MeasuredSample>& samples);

// Results of all arms from the counted samples. `arms`: their names, baseline first.
std::vector<ArmResult> evaluate(const std::vector<MeasuredSample>& samples,
                                const std::vector<std::string>& arms,
                                const MeasureOptions& options);

// The same with all else that the samples decide: arms, verdict, busy, overlap_ratio and the
// confidence level. Everything that is printed or stored of the samples comes from here.
ReplayResult judge(const std::vector<MeasuredSample>& samples, const std::vector<std::string>& arms,
                   const MeasureOptions& options);

// When to stop. Is asked once after each pass over the arms.
class StoppingRule {
 public:
  explicit StoppingRule(const MeasureOptions& options) : options_(options) {}

  // `look` gives the results so far; it is called only when a look is due. Returns precise,
  // time-limit, pair-limit, or nothing: measure one more pass.
  std::string after_pass(bool time_is_up, const std::function<std::vector<ArmResult>()>& look);
  int passes() const { return passes_; }

 private:
  bool precise(const std::vector<ArmResult>& results) const;

  MeasureOptions options_;
  int passes_ = 0;
};

// `clock` in ns; `progress` gets the part of the time limit that has passed.
Measurement measure(Executor& executor, const MeasureOptions& options,
                    const std::function<int64_t()>& clock,
                    const std::function<void(double)>& progress = {});

}  // namespace preserve
