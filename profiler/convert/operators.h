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
// decode step another sequence of operators. A program of more than kMostPlaces places repeats
// none of the later ones often: those are judged one by one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include "db/trace_db.h"
#include "hooks/mpi/functions.h"
#include "profiler/convert/names.h"
#include "profiler/convert/segments.h"

namespace preserve {

inline constexpr int64_t kMinSegmentNs = 1000;
inline constexpr size_t kMostPlaces = 500'000;

struct Operator {
  OpKind kind = OpKind::other;
  uint32_t name = 0;  // StringId value
};

class OperatorRules {
 public:
  // `names` takes the names that are made here.
  OperatorRules(const ThreadShape& shape, Names& names);
  // Every segment of the thread first, then what each of them is.
  void weigh(const Segment& segment);
  // Nothing: idle time.
  std::optional<Operator> classify(const Segment& segment);

 private:
  struct Weight {
    int64_t total_ns = 0, count = 0;
  };
  bool between_calls(const Segment& segment) const;
  bool matters(const Segment& segment) const;
  static uint64_t place_of(const Segment& segment);
  static uint64_t boundary_key(const Boundary& boundary);
  uint32_t name_after(const Boundary& boundary);

  const ThreadShape& shape_;
  Names& names_;
  std::unordered_map<uint64_t, Weight> places_;
  std::unordered_map<uint64_t, uint32_t> names_after_;  // boundary key -> StringId value
  uint32_t function_names_[mpi::kFunctionCount] = {};
};

}  // namespace preserve
