// SPDX-License-Identifier: Apache-2.0
// The words that trace.db uses for the enum classes of trace_db.h.
#include <array>

#include "common/error.h"
#include "db/trace_db.h"

namespace preserve {
namespace {

// Indices are the enum classes of the same order.
constexpr std::array kOpKinds{"compute", "collective", "p2p", "copy", "other"};
constexpr std::array kStreamKinds{"thread", "async", "gpu"};
constexpr std::array kRangeKinds{"push_pop", "start_end", "mark"};
constexpr std::array kRoles{"weight", "kv", "activation", "comm", "unknown"};
constexpr std::array kModes{"read", "write"};
constexpr std::array kVerdicts{"FAST", "SAME", "SLOW", "AMBG"};
constexpr std::array kPhases{"decode", "prefill", "unknown"};

template <size_t N>
size_t index_of(const std::array<const char*, N>& names, std::string_view text, const char* what,
                const std::string& file) {
  for (size_t i = 0; i < N; ++i) {
    if (text == names[i]) return i;
  }
  throw input_error("{}: is damaged: invalid {} '{}'", file, what, text);
}

}  // namespace

const char* to_text(OpKind kind) {
  return kOpKinds[static_cast<size_t>(kind)];
}
const char* to_text(StreamKind kind) {
  return kStreamKinds[static_cast<size_t>(kind)];
}
const char* to_text(RangeKind kind) {
  return kRangeKinds[static_cast<size_t>(kind)];
}
const char* to_text(TensorRole role) {
  return kRoles[static_cast<size_t>(role)];
}
const char* to_text(AccessMode mode) {
  return kModes[static_cast<size_t>(mode)];
}
const char* to_text(StepPhase phase) {
  return kPhases[static_cast<size_t>(phase)];
}

OpKind Query::op_kind(int column) const {
  return static_cast<OpKind>(index_of(kOpKinds, text(column), "operator kind", *file_));
}
Verdict Query::verdict(int column) const {
  return static_cast<Verdict>(index_of(kVerdicts, text(column), "verdict", *file_));
}
TensorRole Query::tensor_role(int column) const {
  return static_cast<TensorRole>(index_of(kRoles, text(column), "tensor role", *file_));
}
AccessMode Query::access_mode(int column) const {
  return static_cast<AccessMode>(index_of(kModes, text(column), "access mode", *file_));
}

}  // namespace preserve
