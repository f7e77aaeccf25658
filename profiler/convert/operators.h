// SPDX-License-Identifier: Apache-2.0
// Which segments of a thread's timeline are operators, of what kind and with what name:
//
//   MPI call                                  collective or p2p; Wait, Init ...: other. Named after
//   the
//                                             function, or after a leaf range that holds only it
//   leaf range without calls                  compute, named after the range
//   rest of a leaf range around its calls     compute, named after the range       } only when it
//   a range's own time between its children   other, named after the range         } matters, else
//   no range, between two MPI calls           compute, "after MPI_Allreduce 2048 B" } idle time
//
// "Matters" is decided once for all repetitions of a place in the program (same range, same
// neighbours): when they last kMinSegmentNs on average. Deciding each time anew would give every
// decode step another sequence of operators.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include "db/trace_db.h"
#include "hooks/mpi/functions.h"
#include "profiler/convert/names.h"
#include "profiler/convert/timeline.h"

namespace preserve {

inline constexpr int64_t kMinSegmentNs = 1000;

struct Operator {
  OpKind kind = OpKind::other;
  uint32_t name = 0;  // StringId value
};

class OperatorRules {
 public:
  // `names` takes the names that are made here.
  OperatorRules(const Timeline& timeline, Names& names);
  // Nothing: idle time.
  std::optional<Operator> classify(const Segment& segment);

 private:
  struct Weight {
    int64_t total_ns = 0, count = 0;
  };
  bool between_calls(const Segment& segment) const;
  bool matters(const Segment& segment) const;
  uint64_t place_of(const Segment& segment) const;
  uint64_t boundary_key(const Boundary& boundary) const;
  uint32_t name_after(const Boundary& boundary);

  const Timeline& timeline_;
  Names& names_;
  std::unordered_map<uint64_t, Weight> places_;
  std::unordered_map<uint64_t, uint32_t> names_after_;  // boundary key -> StringId value
  uint32_t function_names_[mpi::kFunctionCount] = {};
};

}  // namespace preserve
