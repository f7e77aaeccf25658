// SPDX-License-Identifier: Apache-2.0
// The records of a recording of hardware counters, and of what is needed to place them.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "profiler/convert/cuda/run.h"

namespace preserve::cuda {

// Counters of a launch come in several records, after the launch on its thread.
void RunReader::add_counters(std::string_view tail, const Position& position) {
  CounterBody body{};
  if (!take(tail, body)) return;
  has_counters_ = true;
  constexpr size_t kRangeBytes = sizeof(std::array<double, kCounters>);
  if (body.count > kCountersPerRecord || tail.size() < body.count * kRangeBytes) {
    ++run_.losses.damaged;
    return;
  }
  const auto last = last_launch_.find(position.tid);
  if (last == last_launch_.end() || run_.launches[last->second].correlation != body.correlation) {
    run_.losses.counter_unplaced += body.count;
    return;
  }
  std::vector<CounterLaunch>& counted = run_.counter_launches;
  if (body.first == 0) {
    counted_[last->second] = counted.size();
    counted.push_back({last->second, body.device, body.total, position.time_ns, {}});
  }
  const auto place = counted_.find(last->second);
  CounterLaunch* mine = place == counted_.end() ? nullptr : &counted[place->second];
  if (mine == nullptr || mine->values.size() != body.first) {  // one before it was lost
    run_.losses.counter_unplaced += body.count;
    return;
  }
  for (uint32_t i = 0; i < body.count; ++i) {
    std::array<double, kCounters> values{};
    std::memcpy(values.data(), tail.data() + i * kRangeBytes, kRangeBytes);
    for (double& value : values) {
      if (!std::isfinite(value) || value < 0) value = -1;
    }
    mine->values.push_back(values);
  }
  mine->end_ns = position.time_ns;
}

void RunReader::add_counter_setup(const spool::RecordHeader& head, std::string_view tail) {
  CounterSetup setup;
  if (!take(tail, setup.body)) return;
  std::string_view words = tail.substr(0, head.text_bytes);
  setup.chip = next_word(words);
  setup.why_not = next_word(words);
  run_.counter_setups.push_back(std::move(setup));
}

void RunReader::add_executable(std::string_view tail, const Position& position) {
  ExecutableBody body{};
  if (!take(tail, body)) return;
  Cloned& cloned = cloned_[position.tid];
  run_.executables[body.handle].push_back({position.time_ns, std::move(cloned.kernels)});
  cloned = {};
}

}  // namespace preserve::cuda
