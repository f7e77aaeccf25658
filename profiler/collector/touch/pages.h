// SPDX-License-Identifier: Apache-2.0
// Which allocations a program touches between its MPI calls, for programs that do not say: large
// ones are protected when a call ends, and the first touch of each faults, is noted and
// unprotected. When a call begins, everything is unprotected: the kernel copies no protected
// memory, on behalf of this process (EFAULT) or of a peer (process_vm_readv), so nothing is
// protected either while a request is under way, during a system call that may read or write memory
// of the program, or from the first MPI call on whose buffers are not known.
//
// Most intervals protect an allocation as a whole, one fault each. One in kRefinedEvery protects
// pieces of kPieceBytes, one in kFinestEvery of kFinestPieceBytes, which shows where in the
// allocation the program reads. Which ones follows from the number of the interval, the same on all
// ranks.
#pragma once

#include <signal.h>

#include <cstdint>

#include "common/no_copy.h"
#include "hooks/memory/allocations.h"

namespace preserve::collector::touch {

inline constexpr uint64_t kRefinedEvery = 16, kFinestEvery = 256;
inline constexpr uint64_t kPieceBytes = 256 << 10, kFinestPieceBytes = 64 << 10;

// 0: whole allocations.
uint64_t piece_bytes_of(uint64_t interval);

// Around calls that hand memory to the kernel. Any thread, any depth, also in signal handlers.
// `caller`: the code that called; this module's own hands over nothing of the program.
class Pause : NoCopy {
 public:
  explicit Pause(const void* caller);
  ~Pause();

 private:
  const bool counts_;
};

// Whether the fault was one of ours and its page may be used now; in the handler of SIGSEGV.
bool resolve(const siginfo_t& info, const void* context);
// The handler of SIGSEGV in front of the program's own (signals.cc). Once.
void install_handler();

}  // namespace preserve::collector::touch
