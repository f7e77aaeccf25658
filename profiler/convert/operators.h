// SPDX-License-Identifier: Apache-2.0
// Which segments of a thread's timeline are operators, of what kind and with what name:
//
//   MPI call                           collective or p2p; Wait, Init ...: other. Named after the
//                                      function, or after a leaf range that holds only it
//   MPI_Test and its relatives         idle time: how often a program asks depends on the load
//   leaf range without calls           compute, named after the range
//   no range, between two calls that   compute, "after MPI_Allreduce 2048 B"
//   communicate
//   rest of a leaf range around calls  compute, named after the range       } only when it
//   a range's time between children    other, named after the range         } lasts, else
//   no range, between other MPI calls  compute, "after MPI_Wait"            } idle time
//
// So that two recordings of one program have the same operators, a rest is judged once for all
// repetitions of its place in the program (same range, same neighbours), and by its short ones:
// it lasts when at least nine of ten take kMinRestNs. Load makes repetitions longer, never shorter,
// and what only enters and leaves ranges and libraries stays below kMinRestNs even when its code
// comes from memory every time. A program of more than kMostPlaces places repeats none of the later
// ones often: those are judged one by one.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "db/trace_db.h"
#include "hooks/mpi/functions.h"
#include "profiler/convert/names.h"
#include "profiler/convert/segments.h"

namespace preserve {

inline constexpr int64_t kMinRestNs = 20'000;
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
  struct Repetitions {
    int64_t count = 0, shorter = 0;  // than kMinRestNs
  };
  bool is_rest(const Segment& segment) const;
  bool lasts(const Segment& segment) const;
  static uint64_t place_of(const Segment& segment);
  static uint64_t boundary_key(const Boundary& boundary);
  uint32_t name_after(const Boundary& boundary);

  const ThreadShape& shape_;
  Names& names_;
  std::unordered_map<uint64_t, Repetitions> places_;
  std::unordered_map<uint64_t, uint32_t> names_after_;  // boundary key -> StringId value
  uint32_t function_names_[mpi::kFunctionCount] = {};
};

}  // namespace preserve
