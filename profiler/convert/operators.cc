// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/operators.h"

#include <fmt/format.h>

namespace preserve {
namespace {

uint64_t mix(uint64_t seed, uint64_t value) {  // splitmix64
  uint64_t x = seed + value + 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

OperatorRules::OperatorRules(const ThreadShape& shape, Names& names)
    : shape_(shape), names_(names) {
  if (!shape.has_calls()) return;
  for (int i = 0; i < mpi::kFunctionCount; ++i) {
    function_names_[i] = names.id(mpi::kFunctions[i].name);
  }
}

void OperatorRules::weigh(const Segment& segment) {
  if (!is_rest(segment)) return;
  const uint64_t key = place_of(segment);
  auto place = places_.find(key);
  if (place == places_.end()) {
    if (places_.size() == kMostPlaces) return;
    place = places_.try_emplace(key).first;
  }
  ++place->second.count;
  place->second.shorter += segment.end_ns - segment.start_ns < kMinRestNs ? 1 : 0;
}

// Neither a call, nor a whole leaf range, nor all that lies between two calls that communicate.
bool OperatorRules::is_rest(const Segment& segment) const {
  if (segment.call != nullptr) return false;
  if (segment.open.empty()) return !(segment.left.communicates && segment.right.communicates);
  const uint32_t range = segment.range()->index;
  return !shape_.is_leaf(range) || shape_.calls_inside(range);
}

uint64_t OperatorRules::boundary_key(const Boundary& boundary) {
  switch (boundary.kind) {
    case BoundaryKind::none:
      return 0;
    case BoundaryKind::push:
    case BoundaryKind::pop:
      return mix(static_cast<uint64_t>(boundary.kind), boundary.name);
    case BoundaryKind::call_start:
    case BoundaryKind::call_end:
      return mix(mix(static_cast<uint64_t>(boundary.kind), boundary.function),
                 static_cast<uint64_t>(boundary.call_bytes));
  }
  return 0;
}

uint64_t OperatorRules::place_of(const Segment& segment) {
  const uint64_t around = segment.open.empty() ? 0 : segment.range()->name;
  return mix(mix(around, boundary_key(segment.left)), boundary_key(segment.right));
}

bool OperatorRules::lasts(const Segment& segment) const {
  const auto found = places_.find(place_of(segment));
  if (found == places_.end()) return segment.end_ns - segment.start_ns >= kMinRestNs;
  return 10 * found->second.shorter <= found->second.count;
}

uint32_t OperatorRules::name_after(const Boundary& boundary) {
  if (names_after_.size() == kMostPlaces) names_after_.clear();
  const auto [found, added] = names_after_.try_emplace(boundary_key(boundary), 0);
  if (!added) return found->second;
  std::string name = "after ";
  if (boundary.kind == BoundaryKind::call_end) {
    name += mpi::kFunctions[boundary.function].name;
    if (boundary.call_bytes >= 0) name += fmt::format(" {} B", boundary.call_bytes);
  } else {
    name += names_.text(boundary.name);
  }
  found->second = names_.id(name);
  return found->second;
}

std::optional<Operator> OperatorRules::classify(const Segment& segment) {
  const SegmentRange* range = segment.range();
  const bool leaf = range != nullptr && shape_.is_leaf(range->index);
  if (segment.call != nullptr) {
    const spool::MpiBody& body = segment.call->body;
    if (mpi::is_test(body.function)) return std::nullopt;
    const mpi::Kind kind = mpi::kFunctions[body.function].kind;
    const bool issued = (segment.call->flags & spool::kNonBlocking) != 0;
    const OpKind op = issued || kind == mpi::Kind::other ? OpKind::other
                      : kind == mpi::Kind::p2p           ? OpKind::p2p
                                                         : OpKind::collective;
    const bool alone = op != OpKind::other && leaf && shape_.one_call_inside(range->index);
    return Operator{op, alone ? range->name : function_names_[body.function]};
  }
  if (range == nullptr) {
    // Only between two calls: what precedes the first and follows the last is no part of a step.
    if (!shape_.has_calls() || segment.start_ns < shape_.first_call_end_ns ||
        segment.end_ns > shape_.last_call_start_ns || (is_rest(segment) && !lasts(segment))) {
      return std::nullopt;
    }
    return Operator{OpKind::compute, name_after(segment.left)};
  }
  if (leaf && !shape_.calls_inside(range->index)) return Operator{OpKind::compute, range->name};
  if (!lasts(segment)) return std::nullopt;
  return Operator{leaf ? OpKind::compute : OpKind::other, range->name};
}

}  // namespace preserve
