// SPDX-License-Identifier: Apache-2.0
// Blocking allreduces run as non-blocking ones, and the proof beforehand that this changes no bit:
// libraries add in another order in one than in the other for some numbers of ranks and sizes.
#pragma once

#include "apply/library/session.h"
#include "hooks/mpi/calls.h"

namespace preserve::apply {

// Of one communicator, whose calls come one after the other and in the same order on all ranks.
class Conversion {
 public:
  // A call that may be converted after probe(). Only those of basic types and operations are;
  // others stay as they are.
  void note(const mpi::Allreduce& call);
  // Runs each kind that was noted both ways, on pseudo-random data and a communicator of its own.
  // All ranks call it in the place of the same collective.
  Session::Probed probe(MPI_Comm comm, bool has_progress);
  // In the way that was noted and probed; as it is when it was not.
  int run(const mpi::Allreduce& call, Session& session) const;

 private:
  struct Kind {
    int count = 0;
    MPI_Datatype type{};
    MPI_Op op{};
    bool in_place = false;
    bool operator==(const Kind&) const = default;
  };
  static constexpr int kMost = 16;
  bool is_noted(const Kind& kind) const;

  Kind kinds_[kMost];
  int noted_ = 0;
};

}  // namespace preserve::apply
