// SPDX-License-Identifier: Apache-2.0
// The MPI calls that are recorded, and those of PyTorch's c10d: the name of the operator, and what
// trace.db calls the operation. Their places are their numbers in a spool, so: append only.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace preserve::mpi {

enum class Kind : uint8_t { collective, p2p, other };

struct FunctionInfo {
  const char* name;       // of the operator
  const char* operation;  // collective.function
  Kind kind;
};

inline constexpr FunctionInfo kFunctions[] = {
    {"MPI_Allreduce", "allreduce", Kind::collective},
    {"MPI_Reduce", "reduce", Kind::collective},
    {"MPI_Bcast", "broadcast", Kind::collective},
    {"MPI_Allgather", "allgather", Kind::collective},
    {"MPI_Allgatherv", "allgather", Kind::collective},
    {"MPI_Gather", "gather", Kind::collective},
    {"MPI_Gatherv", "gather", Kind::collective},
    {"MPI_Scatter", "scatter", Kind::collective},
    {"MPI_Scatterv", "scatter", Kind::collective},
    {"MPI_Reduce_scatter", "reduce_scatter", Kind::collective},
    {"MPI_Reduce_scatter_block", "reduce_scatter", Kind::collective},
    {"MPI_Alltoall", "alltoall", Kind::collective},
    {"MPI_Alltoallv", "alltoall", Kind::collective},
    {"MPI_Scan", "scan", Kind::collective},
    {"MPI_Exscan", "exscan", Kind::collective},
    {"MPI_Barrier", "barrier", Kind::collective},
    {"MPI_Iallreduce", "allreduce", Kind::collective},
    {"MPI_Ireduce", "reduce", Kind::collective},
    {"MPI_Ibcast", "broadcast", Kind::collective},
    {"MPI_Iallgather", "allgather", Kind::collective},
    {"MPI_Iallgatherv", "allgather", Kind::collective},
    {"MPI_Igather", "gather", Kind::collective},
    {"MPI_Igatherv", "gather", Kind::collective},
    {"MPI_Iscatter", "scatter", Kind::collective},
    {"MPI_Iscatterv", "scatter", Kind::collective},
    {"MPI_Ireduce_scatter", "reduce_scatter", Kind::collective},
    {"MPI_Ireduce_scatter_block", "reduce_scatter", Kind::collective},
    {"MPI_Ialltoall", "alltoall", Kind::collective},
    {"MPI_Ialltoallv", "alltoall", Kind::collective},
    {"MPI_Iscan", "scan", Kind::collective},
    {"MPI_Iexscan", "exscan", Kind::collective},
    {"MPI_Ibarrier", "barrier", Kind::collective},
    {"MPI_Send", "send", Kind::p2p},
    {"MPI_Ssend", "send", Kind::p2p},
    {"MPI_Bsend", "send", Kind::p2p},
    {"MPI_Rsend", "send", Kind::p2p},
    {"MPI_Recv", "recv", Kind::p2p},
    {"MPI_Sendrecv", "sendrecv", Kind::p2p},
    {"MPI_Sendrecv_replace", "sendrecv", Kind::p2p},
    {"MPI_Isend", "send", Kind::p2p},
    {"MPI_Issend", "send", Kind::p2p},
    {"MPI_Ibsend", "send", Kind::p2p},
    {"MPI_Irsend", "send", Kind::p2p},
    {"MPI_Irecv", "recv", Kind::p2p},
    {"MPI_Wait", "", Kind::other},
    {"MPI_Waitall", "", Kind::other},
    {"MPI_Waitany", "", Kind::other},
    {"MPI_Waitsome", "", Kind::other},
    {"MPI_Test", "", Kind::other},
    {"MPI_Testall", "", Kind::other},
    {"MPI_Testany", "", Kind::other},
    {"MPI_Testsome", "", Kind::other},
    {"MPI_Init", "", Kind::other},
    {"MPI_Init_thread", "", Kind::other},
    {"MPI_Finalize", "", Kind::other},
    {"c10d.all_reduce", "allreduce", Kind::collective},
    {"c10d.reduce", "reduce", Kind::collective},
    {"c10d.broadcast", "broadcast", Kind::collective},
    {"c10d.all_gather", "allgather", Kind::collective},
    {"c10d.all_gather_into_tensor", "allgather", Kind::collective},
    {"c10d.gather", "gather", Kind::collective},
    {"c10d.scatter", "scatter", Kind::collective},
    {"c10d.reduce_scatter", "reduce_scatter", Kind::collective},
    {"c10d.reduce_scatter_tensor", "reduce_scatter", Kind::collective},
    {"c10d.all_to_all", "alltoall", Kind::collective},
    {"c10d.all_to_all_single", "alltoall", Kind::collective},
    {"c10d.barrier", "barrier", Kind::collective},
    {"c10d.send", "send", Kind::p2p},
    {"c10d.recv", "recv", Kind::p2p},
    {"c10d.isend", "send", Kind::p2p},
    {"c10d.irecv", "recv", Kind::p2p},
    {"c10d.wait", "", Kind::other},
};

// The place of a function in the table.
enum Function : uint16_t { kFunctionCount = std::size(kFunctions) };

// The number of a name; kFunctionCount when it is not recorded.
constexpr Function function_named(std::string_view name) {
  uint16_t number = 0;
  while (number < kFunctionCount && kFunctions[number].name != name) ++number;
  return static_cast<Function>(number);
}

inline constexpr Function kAllreduce = function_named("MPI_Allreduce");
inline constexpr Function kBarrier = function_named("MPI_Barrier");
inline constexpr Function kIallreduce = function_named("MPI_Iallreduce");
inline constexpr Function kWait = function_named("MPI_Wait");
inline constexpr Function kWaitall = function_named("MPI_Waitall");
inline constexpr Function kWaitany = function_named("MPI_Waitany");
inline constexpr Function kWaitsome = function_named("MPI_Waitsome");
inline constexpr Function kTest = function_named("MPI_Test");
inline constexpr Function kTestall = function_named("MPI_Testall");
inline constexpr Function kTestany = function_named("MPI_Testany");
inline constexpr Function kTestsome = function_named("MPI_Testsome");

constexpr bool is_wait(uint16_t function) {  // one of the four
  return function >= kWait && function <= kWaitsome;
}
constexpr bool is_test(uint16_t function) {
  return function >= kTest && function <= kTestsome;
}

// The collective that stands for all of one operation, blocking or not: trace.db does not tell
// MPI_Allgather from MPI_Allgatherv. kFunctionCount when there is none.
constexpr Function first_like(std::string_view operation, bool blocking) {
  for (uint16_t number = 0; number < kFunctionCount; ++number) {
    const FunctionInfo& info = kFunctions[number];
    const bool waits = !std::string_view(info.name).starts_with("MPI_I");
    if (info.kind == Kind::collective && info.operation == operation && waits == blocking) {
      return static_cast<Function>(number);
    }
  }
  return kFunctionCount;
}
// The same of a collective by its number; of another function itself.
inline constexpr std::array<Function, kFunctionCount> kFirstLike = [] {
  std::array<Function, kFunctionCount> all{};
  for (uint16_t number = 0; number < kFunctionCount; ++number) {
    const FunctionInfo& info = kFunctions[number];
    const bool waits = !std::string_view(info.name).starts_with("MPI_I");
    const bool collective = info.kind == Kind::collective;
    all[number] = collective ? first_like(info.operation, waits) : static_cast<Function>(number);
  }
  return all;
}();

}  // namespace preserve::mpi
