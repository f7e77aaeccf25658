// SPDX-License-Identifier: Apache-2.0
// MPI functions that communicate, wait or move data and are not described: their calls are counted
// by name, so that a recording says what it lacks. Calls that only prepare or ask are not counted.
#include "hooks/mpi/calls.h"

using namespace preserve;
using namespace preserve::hooks;

// Not as mpi.h declares them, which need not know those of MPI 4. All arguments are numbers or
// pointers, each in a register or in a place of 8 bytes on the stack, so they go on as they came;
// what follows the last one is the caller's, and means nothing to the function either.
#define PRESERVE_MPI_COUNTED(name)                                                             \
  PRESERVE_MPI_COUNTED_NAMES(name,                                                             \
                             (long a, long b, long c, long d, long e, long f, long g, long h,  \
                              long i, long j, long k, long l, long m, long n, long o, long p), \
                             (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p))
// At most six arguments, all in registers: nothing of the stack is copied.
#define PRESERVE_MPI_COUNTED_FEW(name)                                               \
  PRESERVE_MPI_COUNTED_NAMES(name, (long a, long b, long c, long d, long e, long f), \
                             (a, b, c, d, e, f))                                     \
  static_assert(argument_count(&MPI_##name) <= 6);
#define PRESERVE_MPI_COUNTED_NAMES(name, parameters, arguments)                            \
  PRESERVE_MPI_COUNTED_AS("MPI_" #name, counted_##name, MPI_##name, parameters, arguments) \
  PRESERVE_MPI_COUNTED_AS("MPI_" #name, counted_P##name, PMPI_##name, parameters, arguments)
#define PRESERVE_MPI_COUNTED_AS(called, local, symbol, parameters, arguments)               \
  extern "C" __attribute__((visibility("default"))) long local parameters __asm__(#symbol); \
  extern "C" long local parameters {                                                        \
    static const auto real = next<decltype(&local)>(#symbol);                               \
    if (real == nullptr) return MPI_ERR_OTHER;                                              \
    if (listening()) listener::mpi_undescribed(called);                                     \
    const Inside inside;                                                                    \
    return real arguments;                                                                  \
  }

namespace {
template <typename Result, typename... Arguments>
constexpr size_t argument_count(Result (*)(Arguments...)) {
  return sizeof...(Arguments);
}
}  // namespace

// --- Persistent requests, matched receives ---
PRESERVE_MPI_COUNTED_FEW(Start)
PRESERVE_MPI_COUNTED_FEW(Startall)
PRESERVE_MPI_COUNTED_FEW(Mprobe)
PRESERVE_MPI_COUNTED_FEW(Improbe)
PRESERVE_MPI_COUNTED_FEW(Mrecv)
PRESERVE_MPI_COUNTED_FEW(Imrecv)

// --- Collectives of several types, and of neighbours ---
PRESERVE_MPI_COUNTED(Alltoallw)
PRESERVE_MPI_COUNTED(Ialltoallw)
PRESERVE_MPI_COUNTED(Neighbor_allgather)
PRESERVE_MPI_COUNTED(Neighbor_allgatherv)
PRESERVE_MPI_COUNTED(Neighbor_alltoall)
PRESERVE_MPI_COUNTED(Neighbor_alltoallv)
PRESERVE_MPI_COUNTED(Neighbor_alltoallw)
PRESERVE_MPI_COUNTED(Ineighbor_allgather)
PRESERVE_MPI_COUNTED(Ineighbor_allgatherv)
PRESERVE_MPI_COUNTED(Ineighbor_alltoall)
PRESERVE_MPI_COUNTED(Ineighbor_alltoallv)
PRESERVE_MPI_COUNTED(Ineighbor_alltoallw)

// --- One-sided communication ---
PRESERVE_MPI_COUNTED(Put)
PRESERVE_MPI_COUNTED(Get)
PRESERVE_MPI_COUNTED(Accumulate)
PRESERVE_MPI_COUNTED(Get_accumulate)
PRESERVE_MPI_COUNTED(Fetch_and_op)
PRESERVE_MPI_COUNTED(Compare_and_swap)
PRESERVE_MPI_COUNTED(Rput)
PRESERVE_MPI_COUNTED(Rget)
PRESERVE_MPI_COUNTED(Raccumulate)
PRESERVE_MPI_COUNTED(Rget_accumulate)
PRESERVE_MPI_COUNTED_FEW(Win_fence)
PRESERVE_MPI_COUNTED_FEW(Win_post)
PRESERVE_MPI_COUNTED_FEW(Win_start)
PRESERVE_MPI_COUNTED_FEW(Win_complete)
PRESERVE_MPI_COUNTED_FEW(Win_wait)
PRESERVE_MPI_COUNTED_FEW(Win_lock)
PRESERVE_MPI_COUNTED_FEW(Win_unlock)
PRESERVE_MPI_COUNTED_FEW(Win_lock_all)
PRESERVE_MPI_COUNTED_FEW(Win_unlock_all)
PRESERVE_MPI_COUNTED_FEW(Win_flush)
PRESERVE_MPI_COUNTED_FEW(Win_flush_all)
PRESERVE_MPI_COUNTED_FEW(Win_flush_local)
PRESERVE_MPI_COUNTED_FEW(Win_flush_local_all)

// --- Files ---
PRESERVE_MPI_COUNTED_FEW(File_read)
PRESERVE_MPI_COUNTED_FEW(File_read_all)
PRESERVE_MPI_COUNTED_FEW(File_read_at)
PRESERVE_MPI_COUNTED_FEW(File_read_at_all)
PRESERVE_MPI_COUNTED_FEW(File_read_ordered)
PRESERVE_MPI_COUNTED_FEW(File_read_shared)
PRESERVE_MPI_COUNTED_FEW(File_iread)
PRESERVE_MPI_COUNTED_FEW(File_iread_all)
PRESERVE_MPI_COUNTED_FEW(File_iread_at)
PRESERVE_MPI_COUNTED_FEW(File_iread_at_all)
PRESERVE_MPI_COUNTED_FEW(File_iread_shared)
PRESERVE_MPI_COUNTED_FEW(File_write)
PRESERVE_MPI_COUNTED_FEW(File_write_all)
PRESERVE_MPI_COUNTED_FEW(File_write_at)
PRESERVE_MPI_COUNTED_FEW(File_write_at_all)
PRESERVE_MPI_COUNTED_FEW(File_write_ordered)
PRESERVE_MPI_COUNTED_FEW(File_write_shared)
PRESERVE_MPI_COUNTED_FEW(File_iwrite)
PRESERVE_MPI_COUNTED_FEW(File_iwrite_all)
PRESERVE_MPI_COUNTED_FEW(File_iwrite_at)
PRESERVE_MPI_COUNTED_FEW(File_iwrite_at_all)
PRESERVE_MPI_COUNTED_FEW(File_iwrite_shared)

// --- Other processes ---
PRESERVE_MPI_COUNTED(Comm_spawn)
PRESERVE_MPI_COUNTED(Comm_spawn_multiple)
PRESERVE_MPI_COUNTED_FEW(Comm_accept)
PRESERVE_MPI_COUNTED_FEW(Comm_connect)

// --- MPI 4: sessions, partitioned messages, and what counts in MPI_Count ---
PRESERVE_MPI_COUNTED(Session_init)
PRESERVE_MPI_COUNTED(Comm_create_from_group)
PRESERVE_MPI_COUNTED(Intercomm_create_from_groups)
PRESERVE_MPI_COUNTED(Pready)
PRESERVE_MPI_COUNTED(Pready_range)
PRESERVE_MPI_COUNTED(Pready_list)
PRESERVE_MPI_COUNTED(Isendrecv)
PRESERVE_MPI_COUNTED(Isendrecv_replace)
PRESERVE_MPI_COUNTED(Allreduce_c)
PRESERVE_MPI_COUNTED(Reduce_c)
PRESERVE_MPI_COUNTED(Bcast_c)
PRESERVE_MPI_COUNTED(Allgather_c)
PRESERVE_MPI_COUNTED(Allgatherv_c)
PRESERVE_MPI_COUNTED(Gather_c)
PRESERVE_MPI_COUNTED(Gatherv_c)
PRESERVE_MPI_COUNTED(Scatter_c)
PRESERVE_MPI_COUNTED(Scatterv_c)
PRESERVE_MPI_COUNTED(Reduce_scatter_c)
PRESERVE_MPI_COUNTED(Reduce_scatter_block_c)
PRESERVE_MPI_COUNTED(Alltoall_c)
PRESERVE_MPI_COUNTED(Alltoallv_c)
PRESERVE_MPI_COUNTED(Alltoallw_c)
PRESERVE_MPI_COUNTED(Scan_c)
PRESERVE_MPI_COUNTED(Exscan_c)
PRESERVE_MPI_COUNTED(Iallreduce_c)
PRESERVE_MPI_COUNTED(Ireduce_c)
PRESERVE_MPI_COUNTED(Ibcast_c)
PRESERVE_MPI_COUNTED(Iallgather_c)
PRESERVE_MPI_COUNTED(Iallgatherv_c)
PRESERVE_MPI_COUNTED(Igather_c)
PRESERVE_MPI_COUNTED(Igatherv_c)
PRESERVE_MPI_COUNTED(Iscatter_c)
PRESERVE_MPI_COUNTED(Iscatterv_c)
PRESERVE_MPI_COUNTED(Ireduce_scatter_c)
PRESERVE_MPI_COUNTED(Ireduce_scatter_block_c)
PRESERVE_MPI_COUNTED(Ialltoall_c)
PRESERVE_MPI_COUNTED(Ialltoallv_c)
PRESERVE_MPI_COUNTED(Ialltoallw_c)
PRESERVE_MPI_COUNTED(Iscan_c)
PRESERVE_MPI_COUNTED(Iexscan_c)
PRESERVE_MPI_COUNTED(Neighbor_allgather_c)
PRESERVE_MPI_COUNTED(Neighbor_allgatherv_c)
PRESERVE_MPI_COUNTED(Neighbor_alltoall_c)
PRESERVE_MPI_COUNTED(Neighbor_alltoallv_c)
PRESERVE_MPI_COUNTED(Neighbor_alltoallw_c)
PRESERVE_MPI_COUNTED(Send_c)
PRESERVE_MPI_COUNTED(Ssend_c)
PRESERVE_MPI_COUNTED(Bsend_c)
PRESERVE_MPI_COUNTED(Rsend_c)
PRESERVE_MPI_COUNTED(Recv_c)
PRESERVE_MPI_COUNTED(Sendrecv_c)
PRESERVE_MPI_COUNTED(Sendrecv_replace_c)
PRESERVE_MPI_COUNTED(Isend_c)
PRESERVE_MPI_COUNTED(Issend_c)
PRESERVE_MPI_COUNTED(Ibsend_c)
PRESERVE_MPI_COUNTED(Irsend_c)
PRESERVE_MPI_COUNTED(Irecv_c)
PRESERVE_MPI_COUNTED(Isendrecv_c)
PRESERVE_MPI_COUNTED(Isendrecv_replace_c)
PRESERVE_MPI_COUNTED(Mrecv_c)
PRESERVE_MPI_COUNTED(Imrecv_c)
PRESERVE_MPI_COUNTED(Put_c)
PRESERVE_MPI_COUNTED(Get_c)
PRESERVE_MPI_COUNTED(Accumulate_c)
PRESERVE_MPI_COUNTED(Get_accumulate_c)
PRESERVE_MPI_COUNTED(Rput_c)
PRESERVE_MPI_COUNTED(Rget_c)
PRESERVE_MPI_COUNTED(Raccumulate_c)
PRESERVE_MPI_COUNTED(Rget_accumulate_c)
