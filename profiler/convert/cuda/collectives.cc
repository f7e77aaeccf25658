// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/collectives.h"

#include <algorithm>

#include "profiler/gpu/call_pairing.h"

namespace preserve::cuda {
namespace {

constexpr double kReported = 1.0, kInGroup = 0.8, kGuessed = 0.5;
constexpr double kPayloadFactor = 0.9;

struct Candidate {
  uint32_t launch;
  const gpu::KernelIdentity* identity;
};

class Pairing {
 public:
  Pairing(const Run& run, CollectivesByLaunch& out) : run_(run), out_(out) {}

  void add(const LibraryCall& call) {
    if (!launches_.empty()) settle();
    (call.from_plugin ? plugin_ : payload_).push_back(call);
  }
  void add(const Candidate& launch) {
    if (!plugin_.empty() || !payload_.empty()) launches_.push_back(launch);
  }
  // The plugin's word counts; what an NVTX payload adds fills the gaps.
  void settle() {
    pair(plugin_, 1.0, "nccl_plugin");
    pair(payload_, kPayloadFactor, "nccl_nvtx");
    plugin_.clear();
    payload_.clear();
    launches_.clear();
  }
  int64_t matched() const { return matched_; }

 private:
  void pair(const std::vector<gpu::CollectiveFacts>& calls, double factor, const char* source) {
    std::vector<std::string> functions;
    for (const Candidate& launch : launches_) functions.push_back(launch.identity->function);
    std::vector<gpu::CollectiveFacts> facts = gpu::pair_calls(
        calls, functions, {kReported * factor, kInGroup * factor, kGuessed * factor});
    for (size_t i = 0; i < facts.size(); ++i) {
      if (facts[i].confidence == 0) continue;
      facts[i].source = source;
      matched_ += facts.size() == 1 ? std::ssize(calls) : 1;
      give(launches_[i].launch, facts[i]);
    }
  }

  void give(uint32_t launch, gpu::CollectiveFacts& facts) {
    if (facts.communicator) {
      const auto ranks = run_.communicator_ranks.find(static_cast<uint64_t>(*facts.communicator));
      if (ranks != run_.communicator_ranks.end()) facts.ranks = ranks->second;
    }
    const auto [entry, fresh] = out_.try_emplace(launch, facts);
    if (fresh) return;
    gpu::CollectiveFacts& known = entry->second;
    if (!known.bytes) known.bytes = facts.bytes;
    if (!known.ranks) known.ranks = facts.ranks;
    if (!known.communicator) known.communicator = facts.communicator;
  }

  const Run& run_;
  CollectivesByLaunch& out_;
  std::vector<gpu::CollectiveFacts> plugin_, payload_;
  std::vector<Candidate> launches_;
  int64_t matched_ = 0;
};

// What each launch runs: the function it names, else the activity that it led to.
GrowingArray<uint32_t> launch_names(const Run& run) {
  GrowingArray<uint32_t> names;
  names.resize(run.launches.size(), 0);
  for (const Activity& activity : run.activities) {
    if (activity.origin != kNone && !activity.is_copy) names[activity.origin] = activity.name;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] != 0 || run.launches[i].kind == LaunchKind::graph) continue;
    const auto function = run.functions.find(run.launches[i].function);
    if (function != run.functions.end()) names[i] = function->second.name;
  }
  return names;
}

}  // namespace

CollectivesByLaunch assign_calls(const Run& run, const std::vector<gpu::KernelIdentity>& identities,
                                 CallSummary& summary) {
  CollectivesByLaunch out;
  summary.calls = static_cast<int64_t>(run.calls.size());
  if (run.calls.empty()) return out;
  struct Event {
    uint32_t tid, order, index;
    bool is_call;
  };
  std::vector<Event> events;
  for (uint32_t i = 0; i < run.calls.size(); ++i) {
    events.push_back({run.calls[i].tid, run.calls[i].order, i, true});
  }
  const GrowingArray<uint32_t> names = launch_names(run);
  for (uint32_t i = 0; i < names.size(); ++i) {
    if (names[i] != 0 && gpu::communicates(identities[names[i]].kernel_class)) {
      events.push_back({run.launches[i].tid, run.launches[i].order, i, false});
    }
  }
  std::ranges::sort(events, [](const Event& a, const Event& b) {
    return a.tid != b.tid ? a.tid < b.tid : a.order < b.order;
  });
  Pairing pairing(run, out);
  for (size_t i = 0; i < events.size(); ++i) {
    if (i > 0 && events[i].tid != events[i - 1].tid) pairing.settle();
    if (events[i].is_call) {
      pairing.add(run.calls[events[i].index]);
    } else {
      pairing.add(Candidate{events[i].index, &identities[names[events[i].index]]});
    }
  }
  pairing.settle();
  summary.matched = pairing.matched();
  return out;
}

}  // namespace preserve::cuda
