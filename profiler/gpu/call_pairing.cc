// SPDX-License-Identifier: Apache-2.0
#include "profiler/gpu/call_pairing.h"

#include <algorithm>

namespace preserve::gpu {
namespace {

bool may_carry_out(const std::string& function, const CollectiveFacts& call) {
  if (function.empty() || call.function.empty() || function == call.function) return true;
  constexpr std::string_view kMadeOfIt[] = {"send", "recv", "alltoall", "gather", "scatter"};
  return function == "sendrecv" &&
         std::ranges::find(kMadeOfIt, call.function) != std::end(kMadeOfIt);
}

}  // namespace

std::vector<CollectiveFacts> pair_calls(const std::vector<CollectiveFacts>& calls,
                                        const std::vector<std::string>& functions,
                                        const PairConfidence& confidence) {
  std::vector<CollectiveFacts> facts(functions.size(), {.confidence = 0});
  if (calls.empty() || functions.empty()) return facts;
  bool in_order = calls.size() == functions.size();
  for (size_t i = 0; in_order && i < calls.size(); ++i) {
    in_order = may_carry_out(functions[i], calls[i]);
  }
  if (in_order) {
    for (size_t i = 0; i < calls.size(); ++i) {
      facts[i] = calls[i];
      facts[i].confidence = calls.size() == 1 ? confidence.alone : confidence.in_group;
    }
  } else if (functions.size() == 1) {
    facts[0] = calls[0];
    for (size_t i = 1; i < calls.size(); ++i) fuse(facts[0], calls[i]);
    facts[0].confidence = confidence.in_group;
  } else {
    size_t next = 0;
    for (const CollectiveFacts& call : calls) {
      for (size_t i = next; i < functions.size(); ++i) {
        if (!may_carry_out(functions[i], call)) continue;
        facts[i] = call;
        facts[i].confidence = confidence.by_function;
        next = i + 1;
        break;
      }
    }
  }
  return facts;
}

}  // namespace preserve::gpu
