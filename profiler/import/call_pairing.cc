// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/call_pairing.h"

namespace preserve::import {
namespace {

constexpr double kAlone = 0.9, kInGroup = 0.72, kByFunction = 0.45;

bool may_carry_out(const std::string& function, const gpu::CollectiveFacts& call) {
  if (function.empty() || function == call.function) return true;
  return function == "sendrecv" && (call.function == "send" || call.function == "recv");
}

}  // namespace

std::vector<gpu::CollectiveFacts> pair_calls(const std::vector<gpu::CollectiveFacts>& calls,
                                             const std::vector<std::string>& functions) {
  std::vector<gpu::CollectiveFacts> facts(functions.size(), {.confidence = 0});
  if (calls.empty() || functions.empty()) return facts;
  bool in_order = calls.size() == functions.size();
  for (size_t i = 0; in_order && i < calls.size(); ++i) {
    in_order = may_carry_out(functions[i], calls[i]);
  }
  if (in_order) {
    for (size_t i = 0; i < calls.size(); ++i) {
      facts[i] = calls[i];
      facts[i].confidence = calls.size() == 1 ? kAlone : kInGroup;
    }
  } else if (functions.size() == 1) {
    facts[0] = calls[0];
    for (size_t i = 1; i < calls.size(); ++i) fuse(facts[0], calls[i]);
    facts[0].confidence = kInGroup;
  } else {
    size_t next = 0;
    for (const gpu::CollectiveFacts& call : calls) {
      for (size_t i = next; i < functions.size(); ++i) {
        if (!may_carry_out(functions[i], call)) continue;
        facts[i] = call;
        facts[i].confidence = kByFunction;
        next = i + 1;
        break;
      }
    }
  }
  return facts;
}

}  // namespace preserve::import
