// SPDX-License-Identifier: Apache-2.0
// The words that trace.db uses for the enum classes of trace_db.h.
#include <array>

#include "common/enum_words.h"
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

template <typename Enum, typename Words>
Enum read_word(const Words& words, std::string_view text, const char* what,
               const std::string& file) {
  if (const auto value = find_word<Enum>(words, text)) return *value;
  throw input_error("{}: is damaged: invalid {} '{}'", file, what, text);
}

}  // namespace

const char* to_text(OpKind kind) {
  return word_of(kOpKinds, kind);
}
const char* to_text(StreamKind kind) {
  return word_of(kStreamKinds, kind);
}
const char* to_text(RangeKind kind) {
  return word_of(kRangeKinds, kind);
}
const char* to_text(TensorRole role) {
  return word_of(kRoles, role);
}
const char* to_text(AccessMode mode) {
  return word_of(kModes, mode);
}
const char* to_text(StepPhase phase) {
  return word_of(kPhases, phase);
}

OpKind Query::op_kind(int column) const {
  return read_word<OpKind>(kOpKinds, text(column), "operator kind", *file_);
}
Verdict Query::verdict(int column) const {
  return read_word<Verdict>(kVerdicts, text(column), "verdict", *file_);
}
TensorRole Query::tensor_role(int column) const {
  return read_word<TensorRole>(kRoles, text(column), "tensor role", *file_);
}
AccessMode Query::access_mode(int column) const {
  return read_word<AccessMode>(kModes, text(column), "access mode", *file_);
}

}  // namespace preserve
