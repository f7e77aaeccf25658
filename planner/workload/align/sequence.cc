// SPDX-License-Identifier: Apache-2.0
#include "planner/workload/align/sequence.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/as_index.h"

namespace preserve::align {
namespace {

constexpr double kLeastUnknownNs = 5'000;  // shorter kernels without a rule are bookkeeping

// Nothing for operators that are not compared.
std::optional<Kind> kind_of(const StepOp& op, gpu::KernelClass kernel_class) {
  if (op.kind == OpKind::collective) return Kind::collective;
  if (op.kind == OpKind::p2p || op.kind == OpKind::copy) return std::nullopt;
  switch (kernel_class) {
    case gpu::KernelClass::matmul:
      return Kind::product;
    case gpu::KernelClass::experts:
      return Kind::experts;
    case gpu::KernelClass::attention:
      return Kind::attention;
    case gpu::KernelClass::norm:
      return Kind::norm;
    case gpu::KernelClass::other:
      if (op.dur_ns >= kLeastUnknownNs) return Kind::unknown;
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

std::optional<Kind> kind_of(const StepOp& op, const OperatorNote& note) {
  const std::string_view kind = note.kind;
  if (kind == "product") return op.gemm ? Kind::product : Kind::experts;
  if (kind == "attention") return Kind::attention;
  if (kind == "collective") return Kind::collective;
  // Of the small ones a norm has weights.
  if (kind == "small" && !op.accesses.empty() && op.accesses.front().mode == AccessMode::read) {
    return Kind::norm;
  }
  return std::nullopt;
}

// The name without its layer: "attn.qkv" of "layers.3.attn.qkv".
std::string_view name_in_layer(std::string_view name) {
  constexpr std::string_view kLayers = "layers.";
  if (!name.starts_with(kLayers)) return name;
  return name.substr(name.find('.', kLayers.size()) + 1);
}

void append_parts(const StepOp& op, const OperatorNote& note, Kind kind, int32_t role,
                  std::vector<Modelled>& sequence) {
  Modelled whole{.ordinal = op.ordinal,
                 .kind = kind,
                 .dur_ns = op.dur_ns,
                 .bytes = read_bytes(op),
                 .role = role};
  if (op.gemm) whole.elements = op.gemm->n * op.gemm->k;
  if (note.parts.empty() || !op.gemm) {
    sequence.push_back(whole);
    return;
  }
  // Every row has as many bytes; rounding must leave no gap between parts.
  const auto bytes_until = [&](int64_t row) {
    return static_cast<int64_t>(static_cast<double>(whole.bytes) * static_cast<double>(row) /
                                static_cast<double>(op.gemm->n));
  };
  int64_t row = 0;
  for (size_t i = 0; i < note.parts.size(); ++i) {
    const int64_t rows = note.parts[i];
    const double share = static_cast<double>(rows) / static_cast<double>(op.gemm->n);
    sequence.push_back({.ordinal = op.ordinal,
                        .kind = kind,
                        .dur_ns = op.dur_ns * share,
                        .elements = rows * op.gemm->k,
                        .offset_bytes = bytes_until(row),
                        .bytes = bytes_until(row + rows) - bytes_until(row),
                        .part = static_cast<int32_t>(i),
                        .parts = static_cast<int32_t>(note.parts.size()),
                        .role = role});
    row += rows;
  }
}

}  // namespace

std::vector<Recorded> recorded_sequence(const FoldedStep& step, const gpu::KernelRules& rules) {
  std::unordered_map<std::string_view, gpu::KernelClass> known;  // names repeat in every layer
  std::vector<Recorded> sequence;
  for (const StepOp& op : step.ops) {
    const auto [found, fresh] = known.try_emplace(op.name, gpu::KernelClass::other);
    if (fresh) found->second = rules.identify(op.name).kernel_class;
    const std::optional<Kind> kind = kind_of(op, found->second);
    if (!kind) continue;
    Recorded& item = sequence.emplace_back(Recorded{op.ordinal, *kind, op.dur_ns});
    int64_t elements = 0;
    if (op.gemm && !__builtin_mul_overflow(op.gemm->n, op.gemm->k, &elements)) {
      item.elements = elements;
    }
  }
  return sequence;
}

std::vector<std::vector<Modelled>> modelled_sequences(const Workload& workload) {
  std::vector<Modelled> usual;
  const auto is_shared = [&](const Modelled& item) {
    return workload.step.ops[as_index(item.ordinal)].name.find(".shared.") != std::string::npos;
  };
  bool any_shared = false;
  std::unordered_map<std::string_view, int32_t> roles;
  for (const StepOp& op : workload.step.ops) {
    const OperatorNote& note = workload.notes[as_index(op.ordinal)];
    const std::optional<Kind> kind = kind_of(op, note);
    if (!kind) continue;
    const auto role =
        roles.try_emplace(name_in_layer(op.name), static_cast<int32_t>(roles.size())).first;
    append_parts(op, note, *kind, role->second, usual);
  }
  // A router precedes its routed experts, which precede the shared ones.
  std::vector<Modelled> other = usual;
  for (size_t first = 0; first < other.size(); ++first) {
    if (other[first].kind != Kind::experts) continue;
    size_t shared = first;
    while (shared < other.size() && other[shared].kind == Kind::experts) ++shared;
    size_t end = shared;
    while (end < other.size() && is_shared(other[end])) ++end;
    const auto at = [&](size_t index) {
      return other.begin() + static_cast<std::ptrdiff_t>(index);
    };
    if (end > shared) {
      any_shared = true;
      std::rotate(at(first > 0 ? first - 1 : first), at(shared), at(end));
    }
    first = end - 1;
  }
  std::vector<std::vector<Modelled>> sequences{std::move(usual)};
  if (any_shared) sequences.push_back(std::move(other));
  return sequences;
}

}  // namespace preserve::align
