// SPDX-License-Identifier: Apache-2.0
// The MPI calls that are recorded: their number in a spool, the name of the operator, and what
// trace.db calls the operation. Numbers are part of the spool format: append only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "profiler/spool.h"

namespace preserve::spool {

enum MpiFunction : uint16_t {
  kAllreduce, kReduce, kBcast, kAllgather, kAllgatherv, kGather, kGatherv, kScatter, kScatterv,
  kReduceScatter, kReduceScatterBlock, kAlltoall, kAlltoallv, kScan, kExscan, kBarrier,
  kIallreduce, kIreduce, kIbcast, kIallgather, kIallgatherv, kIgather, kIgatherv, kIscatter,
  kIscatterv, kIreduceScatter, kIreduceScatterBlock, kIalltoall, kIalltoallv, kIscan, kIexscan,
  kIbarrier,
  kSend, kSsend, kBsend, kRsend, kRecv, kSendrecv, kSendrecvReplace,
  kIsend, kIssend, kIbsend, kIrsend, kIrecv,
  kWait, kWaitall, kWaitany, kWaitsome, kTest, kTestall, kTestany, kTestsome,
  kInit, kInitThread, kFinalize,
  kMpiFunctionCount,
};

struct MpiFunctionInfo {
  const char* name;       // of the operator
  const char* operation;  // collective.function
  MpiKind kind;
};

inline constexpr MpiFunctionInfo kMpiFunctions[] = {
    {"MPI_Allreduce", "allreduce", MpiKind::collective},
    {"MPI_Reduce", "reduce", MpiKind::collective},
    {"MPI_Bcast", "broadcast", MpiKind::collective},
    {"MPI_Allgather", "allgather", MpiKind::collective},
    {"MPI_Allgatherv", "allgather", MpiKind::collective},
    {"MPI_Gather", "gather", MpiKind::collective},
    {"MPI_Gatherv", "gather", MpiKind::collective},
    {"MPI_Scatter", "scatter", MpiKind::collective},
    {"MPI_Scatterv", "scatter", MpiKind::collective},
    {"MPI_Reduce_scatter", "reduce_scatter", MpiKind::collective},
    {"MPI_Reduce_scatter_block", "reduce_scatter", MpiKind::collective},
    {"MPI_Alltoall", "alltoall", MpiKind::collective},
    {"MPI_Alltoallv", "alltoall", MpiKind::collective},
    {"MPI_Scan", "scan", MpiKind::collective},
    {"MPI_Exscan", "exscan", MpiKind::collective},
    {"MPI_Barrier", "barrier", MpiKind::collective},
    {"MPI_Iallreduce", "allreduce", MpiKind::collective},
    {"MPI_Ireduce", "reduce", MpiKind::collective},
    {"MPI_Ibcast", "broadcast", MpiKind::collective},
    {"MPI_Iallgather", "allgather", MpiKind::collective},
    {"MPI_Iallgatherv", "allgather", MpiKind::collective},
    {"MPI_Igather", "gather", MpiKind::collective},
    {"MPI_Igatherv", "gather", MpiKind::collective},
    {"MPI_Iscatter", "scatter", MpiKind::collective},
    {"MPI_Iscatterv", "scatter", MpiKind::collective},
    {"MPI_Ireduce_scatter", "reduce_scatter", MpiKind::collective},
    {"MPI_Ireduce_scatter_block", "reduce_scatter", MpiKind::collective},
    {"MPI_Ialltoall", "alltoall", MpiKind::collective},
    {"MPI_Ialltoallv", "alltoall", MpiKind::collective},
    {"MPI_Iscan", "scan", MpiKind::collective},
    {"MPI_Iexscan", "exscan", MpiKind::collective},
    {"MPI_Ibarrier", "barrier", MpiKind::collective},
    {"MPI_Send", "send", MpiKind::p2p},
    {"MPI_Ssend", "send", MpiKind::p2p},
    {"MPI_Bsend", "send", MpiKind::p2p},
    {"MPI_Rsend", "send", MpiKind::p2p},
    {"MPI_Recv", "recv", MpiKind::p2p},
    {"MPI_Sendrecv", "sendrecv", MpiKind::p2p},
    {"MPI_Sendrecv_replace", "sendrecv", MpiKind::p2p},
    {"MPI_Isend", "send", MpiKind::p2p},
    {"MPI_Issend", "send", MpiKind::p2p},
    {"MPI_Ibsend", "send", MpiKind::p2p},
    {"MPI_Irsend", "send", MpiKind::p2p},
    {"MPI_Irecv", "recv", MpiKind::p2p},
    {"MPI_Wait", "", MpiKind::other},
    {"MPI_Waitall", "", MpiKind::other},
    {"MPI_Waitany", "", MpiKind::other},
    {"MPI_Waitsome", "", MpiKind::other},
    {"MPI_Test", "", MpiKind::other},
    {"MPI_Testall", "", MpiKind::other},
    {"MPI_Testany", "", MpiKind::other},
    {"MPI_Testsome", "", MpiKind::other},
    {"MPI_Init", "", MpiKind::other},
    {"MPI_Init_thread", "", MpiKind::other},
    {"MPI_Finalize", "", MpiKind::other},
};
static_assert(sizeof(kMpiFunctions) / sizeof(kMpiFunctions[0]) == kMpiFunctionCount);

}  // namespace preserve::spool
