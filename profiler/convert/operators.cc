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

OperatorRules::OperatorRules(const Timeline& timeline, Names& names)
    : timeline_(timeline), names_(names) {
  for (int i = 0; i < mpi::kFunctionCount; ++i) {
    if (timeline.calls().empty()) break;
    function_names_[i] = names.id(mpi::kFunctions[i].name);
  }
  timeline.for_each_segment([this](const Segment& segment) {
    if (!is_rest(segment)) return;
    Repetitions& place = places_[place_of(segment)];
    ++place.count;
    place.shorter += segment.end_ns - segment.start_ns < kMinRestNs ? 1 : 0;
  });
}

// Neither a call, nor a whole leaf range, nor all that lies between two calls that communicate.
bool OperatorRules::is_rest(const Segment& segment) const {
  if (segment.is_call) return false;
  if (segment.range == kNoRange) {
    return !(communicates(segment.left) && communicates(segment.right));
  }
  const TimelineRange& range = timeline_.ranges()[segment.range];
  return !range.leaf || range.calls > 0;
}

bool OperatorRules::communicates(const Boundary& boundary) const {
  if (boundary.kind != BoundaryKind::call_start && boundary.kind != BoundaryKind::call_end) {
    return false;
  }
  const TimelineCall& call = timeline_.calls()[boundary.index];
  return (call.flags & spool::kNonBlocking) == 0 &&
         mpi::kFunctions[call.body.function].kind != mpi::Kind::other;
}

uint64_t OperatorRules::boundary_key(const Boundary& boundary) const {
  switch (boundary.kind) {
    case BoundaryKind::none:
      return 0;
    case BoundaryKind::push:
    case BoundaryKind::pop:
      return mix(static_cast<uint64_t>(boundary.kind), timeline_.ranges()[boundary.index].name);
    case BoundaryKind::call_start:
    case BoundaryKind::call_end: {
      const TimelineCall& call = timeline_.calls()[boundary.index];
      return mix(mix(static_cast<uint64_t>(boundary.kind), call.body.function),
                 static_cast<uint64_t>(call.body.bytes));
    }
  }
  return 0;
}

uint64_t OperatorRules::place_of(const Segment& segment) const {
  const uint64_t around = segment.range == kNoRange ? 0 : timeline_.ranges()[segment.range].name;
  return mix(mix(around, boundary_key(segment.left)), boundary_key(segment.right));
}

bool OperatorRules::lasts(const Segment& segment) const {
  const auto found = places_.find(place_of(segment));
  return found != places_.end() && 10 * found->second.shorter <= found->second.count;
}

uint32_t OperatorRules::name_after(const Boundary& boundary) {
  const auto [found, added] = names_after_.try_emplace(boundary_key(boundary), 0);
  if (!added) return found->second;
  std::string name = "after ";
  if (boundary.kind == BoundaryKind::call_end) {
    const spool::MpiBody& body = timeline_.calls()[boundary.index].body;
    name += mpi::kFunctions[body.function].name;
    if (body.bytes >= 0) name += fmt::format(" {} B", body.bytes);
  } else {
    name += names_.text(timeline_.ranges()[boundary.index].name);
  }
  found->second = names_.id(name);
  return found->second;
}

std::optional<Operator> OperatorRules::classify(const Segment& segment) {
  const auto& ranges = timeline_.ranges();
  const TimelineRange* range = segment.range == kNoRange ? nullptr : &ranges[segment.range];
  if (segment.is_call) {
    const spool::MpiBody& body = timeline_.calls()[segment.left.index].body;
    if (body.function >= mpi::kTest && body.function <= mpi::kTestsome) return std::nullopt;
    const mpi::Kind kind = mpi::kFunctions[body.function].kind;
    const bool issued = (timeline_.calls()[segment.left.index].flags & spool::kNonBlocking) != 0;
    const OpKind op = issued || kind == mpi::Kind::other ? OpKind::other
                      : kind == mpi::Kind::p2p           ? OpKind::p2p
                                                         : OpKind::collective;
    const bool alone = op != OpKind::other && range != nullptr && range->leaf && range->calls == 1;
    return Operator{op, alone ? range->name : function_names_[body.function]};
  }
  if (range == nullptr) {
    // Only between two calls: what precedes the first and follows the last is no part of a step.
    const auto& calls = timeline_.calls();
    if (calls.empty() || segment.start_ns < calls.front().end_ns ||
        segment.end_ns > calls.back().start_ns || (is_rest(segment) && !lasts(segment))) {
      return std::nullopt;
    }
    return Operator{OpKind::compute, name_after(segment.left)};
  }
  if (range->leaf && range->calls == 0) return Operator{OpKind::compute, range->name};
  if (!lasts(segment)) return std::nullopt;
  return Operator{range->leaf ? OpKind::compute : OpKind::other, range->name};
}

}  // namespace preserve
