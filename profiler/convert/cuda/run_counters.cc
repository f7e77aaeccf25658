// SPDX-License-Identifier: Apache-2.0
// The records of a recording of hardware counters, and of what is needed to place them.
#include <cmath>
#include <cstring>

#include "profiler/convert/cuda/run.h"

namespace preserve::cuda {

// Counters of a launch come in several records, after the launch on its thread.
void RunReader::take(const CounterBody& body, const Record& record) {
  has_counters_ = true;
  constexpr size_t kRangeBytes = sizeof(std::array<double, kCounters>);
  const std::string_view ranges = record.blob;
  if (body.count > kCountersPerRecord || ranges.size() < body.count * kRangeBytes) {
    ++run_.losses.damaged;
    return;
  }
  const auto last = last_launch_.find(record.position.tid);
  if (last == last_launch_.end() || run_.launches[last->second].correlation != body.correlation) {
    run_.losses.counter_unplaced += body.count;
    return;
  }
  std::vector<CounterLaunch>& counted = run_.counter_launches;
  if (body.first == 0) {
    counted_[last->second] = counted.size();
    counted.push_back({last->second, body.device, body.total, record.position.time_ns, {}});
  }
  const auto place = counted_.find(last->second);
  CounterLaunch* mine = place == counted_.end() ? nullptr : &counted[place->second];
  if (mine == nullptr || mine->values.size() != body.first) {  // one before it was lost
    run_.losses.counter_unplaced += body.count;
    return;
  }
  for (uint32_t i = 0; i < body.count; ++i) {
    std::array<double, kCounters> values{};
    std::memcpy(values.data(), ranges.data() + i * kRangeBytes, kRangeBytes);
    for (double& value : values) {
      if (!std::isfinite(value) || value < 0) value = -1;
    }
    mine->values.push_back(values);
  }
  mine->end_ns = record.position.time_ns;
}

void RunReader::take(const CounterSetupBody& body, const Record& record) {
  CounterSetup setup{.body = body};
  std::string_view words = record.text;
  setup.chip = next_word(words);
  setup.why_not = next_word(words);
  run_.counter_setups.push_back(std::move(setup));
}

void RunReader::take(const ExecutableBody& body, const Record& record) {
  Cloned& cloned = cloned_[record.position.tid];
  run_.executables[body.handle].push_back({record.position.time_ns, std::move(cloned.kernels)});
  cloned = {};
}

}  // namespace preserve::cuda
