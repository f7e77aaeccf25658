// SPDX-License-Identifier: Apache-2.0
// MPI functions that communicate, wait or move data and are not described: their calls are counted
// by name, so that a recording says what it lacks. Calls that only prepare or ask are not counted.
#include "hooks/mpi/calls.h"

using namespace preserve;
using namespace preserve::hooks;

#define PRESERVE_MPI_COUNTED(name, parameters, arguments)     \
  PRESERVE_MPI(name, parameters, arguments) {                 \
    if (listening()) listener::mpi_undescribed("MPI_" #name); \
    const Inside inside;                                      \
    return real arguments;                                    \
  }

// --- Persistent requests, matched receives ---
PRESERVE_MPI_COUNTED(Start, (MPI_Request * request), (request))
PRESERVE_MPI_COUNTED(Startall, (int count, MPI_Request array_of_requests[]),
                     (count, array_of_requests))
PRESERVE_MPI_COUNTED(Mprobe,
                     (int source, int tag, MPI_Comm comm, MPI_Message* message, MPI_Status* status),
                     (source, tag, comm, message, status))
PRESERVE_MPI_COUNTED(Improbe,
                     (int source, int tag, MPI_Comm comm, int* flag, MPI_Message* message,
                      MPI_Status* status),
                     (source, tag, comm, flag, message, status))
PRESERVE_MPI_COUNTED(Mrecv,
                     (void* buf, int count, MPI_Datatype type, MPI_Message* message,
                      MPI_Status* status),
                     (buf, count, type, message, status))
PRESERVE_MPI_COUNTED(Imrecv,
                     (void* buf, int count, MPI_Datatype type, MPI_Message* message,
                      MPI_Request* request),
                     (buf, count, type, message, request))

// --- Collectives of several types, and of neighbours ---
PRESERVE_MPI_COUNTED(Alltoallw,
                     (const void* sendbuf, const int sendcounts[], const int sdispls[],
                      const MPI_Datatype sendtypes[], void* recvbuf, const int recvcounts[],
                      const int rdispls[], const MPI_Datatype recvtypes[], MPI_Comm comm),
                     (sendbuf, sendcounts, sdispls, sendtypes, recvbuf, recvcounts, rdispls,
                      recvtypes, comm))
PRESERVE_MPI_COUNTED(Ialltoallw,
                     (const void* sendbuf, const int sendcounts[], const int sdispls[],
                      const MPI_Datatype sendtypes[], void* recvbuf, const int recvcounts[],
                      const int rdispls[], const MPI_Datatype recvtypes[], MPI_Comm comm,
                      MPI_Request* request),
                     (sendbuf, sendcounts, sdispls, sendtypes, recvbuf, recvcounts, rdispls,
                      recvtypes, comm, request))
PRESERVE_MPI_COUNTED(Neighbor_allgather,
                     (const void* sendbuf, int sendcount, MPI_Datatype sendtype, void* recvbuf,
                      int recvcount, MPI_Datatype recvtype, MPI_Comm comm),
                     (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, comm))
PRESERVE_MPI_COUNTED(Neighbor_allgatherv,
                     (const void* sendbuf, int sendcount, MPI_Datatype sendtype, void* recvbuf,
                      const int recvcounts[], const int displs[], MPI_Datatype recvtype,
                      MPI_Comm comm),
                     (sendbuf, sendcount, sendtype, recvbuf, recvcounts, displs, recvtype, comm))
PRESERVE_MPI_COUNTED(Neighbor_alltoall,
                     (const void* sendbuf, int sendcount, MPI_Datatype sendtype, void* recvbuf,
                      int recvcount, MPI_Datatype recvtype, MPI_Comm comm),
                     (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, comm))
PRESERVE_MPI_COUNTED(Neighbor_alltoallv,
                     (const void* sendbuf, const int sendcounts[], const int sdispls[],
                      MPI_Datatype sendtype, void* recvbuf, const int recvcounts[],
                      const int rdispls[], MPI_Datatype recvtype, MPI_Comm comm),
                     (sendbuf, sendcounts, sdispls, sendtype, recvbuf, recvcounts, rdispls,
                      recvtype, comm))
PRESERVE_MPI_COUNTED(Neighbor_alltoallw,
                     (const void* sendbuf, const int sendcounts[], const MPI_Aint sdispls[],
                      const MPI_Datatype sendtypes[], void* recvbuf, const int recvcounts[],
                      const MPI_Aint rdispls[], const MPI_Datatype recvtypes[], MPI_Comm comm),
                     (sendbuf, sendcounts, sdispls, sendtypes, recvbuf, recvcounts, rdispls,
                      recvtypes, comm))
PRESERVE_MPI_COUNTED(Ineighbor_allgather,
                     (const void* sendbuf, int sendcount, MPI_Datatype sendtype, void* recvbuf,
                      int recvcount, MPI_Datatype recvtype, MPI_Comm comm, MPI_Request* request),
                     (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, comm, request))
PRESERVE_MPI_COUNTED(Ineighbor_allgatherv,
                     (const void* sendbuf, int sendcount, MPI_Datatype sendtype, void* recvbuf,
                      const int recvcounts[], const int displs[], MPI_Datatype recvtype,
                      MPI_Comm comm, MPI_Request* request),
                     (sendbuf, sendcount, sendtype, recvbuf, recvcounts, displs, recvtype, comm,
                      request))
PRESERVE_MPI_COUNTED(Ineighbor_alltoall,
                     (const void* sendbuf, int sendcount, MPI_Datatype sendtype, void* recvbuf,
                      int recvcount, MPI_Datatype recvtype, MPI_Comm comm, MPI_Request* request),
                     (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, comm, request))
PRESERVE_MPI_COUNTED(Ineighbor_alltoallv,
                     (const void* sendbuf, const int sendcounts[], const int sdispls[],
                      MPI_Datatype sendtype, void* recvbuf, const int recvcounts[],
                      const int rdispls[], MPI_Datatype recvtype, MPI_Comm comm,
                      MPI_Request* request),
                     (sendbuf, sendcounts, sdispls, sendtype, recvbuf, recvcounts, rdispls,
                      recvtype, comm, request))
PRESERVE_MPI_COUNTED(Ineighbor_alltoallw,
                     (const void* sendbuf, const int sendcounts[], const MPI_Aint sdispls[],
                      const MPI_Datatype sendtypes[], void* recvbuf, const int recvcounts[],
                      const MPI_Aint rdispls[], const MPI_Datatype recvtypes[], MPI_Comm comm,
                      MPI_Request* request),
                     (sendbuf, sendcounts, sdispls, sendtypes, recvbuf, recvcounts, rdispls,
                      recvtypes, comm, request))

// --- One-sided communication ---
PRESERVE_MPI_COUNTED(Put,
                     (const void* origin_addr, int origin_count, MPI_Datatype origin_datatype,
                      int target_rank, MPI_Aint target_disp, int target_count,
                      MPI_Datatype target_datatype, MPI_Win win),
                     (origin_addr, origin_count, origin_datatype, target_rank, target_disp,
                      target_count, target_datatype, win))
PRESERVE_MPI_COUNTED(Get,
                     (void* origin_addr, int origin_count, MPI_Datatype origin_datatype,
                      int target_rank, MPI_Aint target_disp, int target_count,
                      MPI_Datatype target_datatype, MPI_Win win),
                     (origin_addr, origin_count, origin_datatype, target_rank, target_disp,
                      target_count, target_datatype, win))
PRESERVE_MPI_COUNTED(Accumulate,
                     (const void* origin_addr, int origin_count, MPI_Datatype origin_datatype,
                      int target_rank, MPI_Aint target_disp, int target_count,
                      MPI_Datatype target_datatype, MPI_Op op, MPI_Win win),
                     (origin_addr, origin_count, origin_datatype, target_rank, target_disp,
                      target_count, target_datatype, op, win))
PRESERVE_MPI_COUNTED(Get_accumulate,
                     (const void* origin_addr, int origin_count, MPI_Datatype origin_datatype,
                      void* result_addr, int result_count, MPI_Datatype result_datatype,
                      int target_rank, MPI_Aint target_disp, int target_count,
                      MPI_Datatype target_datatype, MPI_Op op, MPI_Win win),
                     (origin_addr, origin_count, origin_datatype, result_addr, result_count,
                      result_datatype, target_rank, target_disp, target_count, target_datatype, op,
                      win))
PRESERVE_MPI_COUNTED(Fetch_and_op,
                     (const void* origin_addr, void* result_addr, MPI_Datatype datatype,
                      int target_rank, MPI_Aint target_disp, MPI_Op op, MPI_Win win),
                     (origin_addr, result_addr, datatype, target_rank, target_disp, op, win))
PRESERVE_MPI_COUNTED(Compare_and_swap,
                     (const void* origin_addr, const void* compare_addr, void* result_addr,
                      MPI_Datatype datatype, int target_rank, MPI_Aint target_disp, MPI_Win win),
                     (origin_addr, compare_addr, result_addr, datatype, target_rank, target_disp,
                      win))
PRESERVE_MPI_COUNTED(Rput,
                     (const void* origin_addr, int origin_count, MPI_Datatype origin_datatype,
                      int target_rank, MPI_Aint target_disp, int target_cout,
                      MPI_Datatype target_datatype, MPI_Win win, MPI_Request* request),
                     (origin_addr, origin_count, origin_datatype, target_rank, target_disp,
                      target_cout, target_datatype, win, request))
PRESERVE_MPI_COUNTED(Rget,
                     (void* origin_addr, int origin_count, MPI_Datatype origin_datatype,
                      int target_rank, MPI_Aint target_disp, int target_count,
                      MPI_Datatype target_datatype, MPI_Win win, MPI_Request* request),
                     (origin_addr, origin_count, origin_datatype, target_rank, target_disp,
                      target_count, target_datatype, win, request))
PRESERVE_MPI_COUNTED(Raccumulate,
                     (const void* origin_addr, int origin_count, MPI_Datatype origin_datatype,
                      int target_rank, MPI_Aint target_disp, int target_count,
                      MPI_Datatype target_datatype, MPI_Op op, MPI_Win win, MPI_Request* request),
                     (origin_addr, origin_count, origin_datatype, target_rank, target_disp,
                      target_count, target_datatype, op, win, request))
PRESERVE_MPI_COUNTED(Rget_accumulate,
                     (const void* origin_addr, int origin_count, MPI_Datatype origin_datatype,
                      void* result_addr, int result_count, MPI_Datatype result_datatype,
                      int target_rank, MPI_Aint target_disp, int target_count,
                      MPI_Datatype target_datatype, MPI_Op op, MPI_Win win, MPI_Request* request),
                     (origin_addr, origin_count, origin_datatype, result_addr, result_count,
                      result_datatype, target_rank, target_disp, target_count, target_datatype, op,
                      win, request))
PRESERVE_MPI_COUNTED(Win_fence, (int assert, MPI_Win win), (assert, win))
PRESERVE_MPI_COUNTED(Win_post, (MPI_Group group, int assert, MPI_Win win), (group, assert, win))
PRESERVE_MPI_COUNTED(Win_start, (MPI_Group group, int assert, MPI_Win win), (group, assert, win))
PRESERVE_MPI_COUNTED(Win_complete, (MPI_Win win), (win))
PRESERVE_MPI_COUNTED(Win_wait, (MPI_Win win), (win))
PRESERVE_MPI_COUNTED(Win_lock, (int lock_type, int rank, int assert, MPI_Win win),
                     (lock_type, rank, assert, win))
PRESERVE_MPI_COUNTED(Win_unlock, (int rank, MPI_Win win), (rank, win))
PRESERVE_MPI_COUNTED(Win_lock_all, (int assert, MPI_Win win), (assert, win))
PRESERVE_MPI_COUNTED(Win_unlock_all, (MPI_Win win), (win))
PRESERVE_MPI_COUNTED(Win_flush, (int rank, MPI_Win win), (rank, win))
PRESERVE_MPI_COUNTED(Win_flush_all, (MPI_Win win), (win))
PRESERVE_MPI_COUNTED(Win_flush_local, (int rank, MPI_Win win), (rank, win))
PRESERVE_MPI_COUNTED(Win_flush_local_all, (MPI_Win win), (win))

// --- Files ---
PRESERVE_MPI_COUNTED(File_read,
                     (MPI_File fh, void* buf, int count, MPI_Datatype datatype, MPI_Status* status),
                     (fh, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_read_all,
                     (MPI_File fh, void* buf, int count, MPI_Datatype datatype, MPI_Status* status),
                     (fh, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_read_at,
                     (MPI_File fh, MPI_Offset offset, void* buf, int count, MPI_Datatype datatype,
                      MPI_Status* status),
                     (fh, offset, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_read_at_all,
                     (MPI_File fh, MPI_Offset offset, void* buf, int count, MPI_Datatype datatype,
                      MPI_Status* status),
                     (fh, offset, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_read_ordered,
                     (MPI_File fh, void* buf, int count, MPI_Datatype datatype, MPI_Status* status),
                     (fh, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_read_shared,
                     (MPI_File fh, void* buf, int count, MPI_Datatype datatype, MPI_Status* status),
                     (fh, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_iread,
                     (MPI_File fh, void* buf, int count, MPI_Datatype datatype,
                      MPI_Request* request),
                     (fh, buf, count, datatype, request))
PRESERVE_MPI_COUNTED(File_iread_all,
                     (MPI_File fh, void* buf, int count, MPI_Datatype datatype,
                      MPI_Request* request),
                     (fh, buf, count, datatype, request))
PRESERVE_MPI_COUNTED(File_iread_at,
                     (MPI_File fh, MPI_Offset offset, void* buf, int count, MPI_Datatype datatype,
                      MPI_Request* request),
                     (fh, offset, buf, count, datatype, request))
PRESERVE_MPI_COUNTED(File_iread_at_all,
                     (MPI_File fh, MPI_Offset offset, void* buf, int count, MPI_Datatype datatype,
                      MPI_Request* request),
                     (fh, offset, buf, count, datatype, request))
PRESERVE_MPI_COUNTED(File_iread_shared,
                     (MPI_File fh, void* buf, int count, MPI_Datatype datatype,
                      MPI_Request* request),
                     (fh, buf, count, datatype, request))
PRESERVE_MPI_COUNTED(File_write,
                     (MPI_File fh, const void* buf, int count, MPI_Datatype datatype,
                      MPI_Status* status),
                     (fh, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_write_all,
                     (MPI_File fh, const void* buf, int count, MPI_Datatype datatype,
                      MPI_Status* status),
                     (fh, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_write_at,
                     (MPI_File fh, MPI_Offset offset, const void* buf, int count,
                      MPI_Datatype datatype, MPI_Status* status),
                     (fh, offset, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_write_at_all,
                     (MPI_File fh, MPI_Offset offset, const void* buf, int count,
                      MPI_Datatype datatype, MPI_Status* status),
                     (fh, offset, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_write_ordered,
                     (MPI_File fh, const void* buf, int count, MPI_Datatype datatype,
                      MPI_Status* status),
                     (fh, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_write_shared,
                     (MPI_File fh, const void* buf, int count, MPI_Datatype datatype,
                      MPI_Status* status),
                     (fh, buf, count, datatype, status))
PRESERVE_MPI_COUNTED(File_iwrite,
                     (MPI_File fh, const void* buf, int count, MPI_Datatype datatype,
                      MPI_Request* request),
                     (fh, buf, count, datatype, request))
PRESERVE_MPI_COUNTED(File_iwrite_all,
                     (MPI_File fh, const void* buf, int count, MPI_Datatype datatype,
                      MPI_Request* request),
                     (fh, buf, count, datatype, request))
PRESERVE_MPI_COUNTED(File_iwrite_at,
                     (MPI_File fh, MPI_Offset offset, const void* buf, int count,
                      MPI_Datatype datatype, MPI_Request* request),
                     (fh, offset, buf, count, datatype, request))
PRESERVE_MPI_COUNTED(File_iwrite_at_all,
                     (MPI_File fh, MPI_Offset offset, const void* buf, int count,
                      MPI_Datatype datatype, MPI_Request* request),
                     (fh, offset, buf, count, datatype, request))
PRESERVE_MPI_COUNTED(File_iwrite_shared,
                     (MPI_File fh, const void* buf, int count, MPI_Datatype datatype,
                      MPI_Request* request),
                     (fh, buf, count, datatype, request))

// --- Other processes ---
PRESERVE_MPI_COUNTED(Comm_spawn,
                     (const char* command, char* argv[], int maxprocs, MPI_Info info, int root,
                      MPI_Comm comm, MPI_Comm* intercomm, int array_of_errcodes[]),
                     (command, argv, maxprocs, info, root, comm, intercomm, array_of_errcodes))
PRESERVE_MPI_COUNTED(Comm_spawn_multiple,
                     (int count, char* commands[], char** argvs[], const int maxprocs[],
                      const MPI_Info infos[], int root, MPI_Comm comm, MPI_Comm* intercomm,
                      int array_of_errcodes[]),
                     (count, commands, argvs, maxprocs, infos, root, comm, intercomm,
                      array_of_errcodes))
PRESERVE_MPI_COUNTED(Comm_accept,
                     (const char* port_name, MPI_Info info, int root, MPI_Comm comm,
                      MPI_Comm* newcomm),
                     (port_name, info, root, comm, newcomm))
PRESERVE_MPI_COUNTED(Comm_connect,
                     (const char* port_name, MPI_Info info, int root, MPI_Comm comm,
                      MPI_Comm* newcomm),
                     (port_name, info, root, comm, newcomm))

// --- MPI 4, which mpi.h here need not know: sessions, partitioned messages, and what counts in
// MPI_Count. All arguments are numbers or pointers, each in a register or in a place of 8 bytes on
// the stack, so they go on as they came; what follows the last one is the caller's, and means
// nothing to the function either. ---
#define PRESERVE_MPI_COUNTED_ANY(name)                              \
  PRESERVE_MPI_COUNTED_AS("MPI_" #name, counted_##name, MPI_##name) \
  PRESERVE_MPI_COUNTED_AS("MPI_" #name, counted_P##name, PMPI_##name)
#define PRESERVE_MPI_COUNTED_AS(called, local, symbol)                                          \
  extern "C" __attribute__((visibility("default"))) long local(                                 \
      long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k,   \
      long l, long m, long n, long o, long p) __asm__(#symbol);                                 \
  extern "C" long local(long a, long b, long c, long d, long e, long f, long g, long h, long i, \
                        long j, long k, long l, long m, long n, long o, long p) {               \
    static const auto real = next<decltype(&local)>(#symbol);                                   \
    if (real == nullptr) return MPI_ERR_OTHER;                                                  \
    if (listening()) listener::mpi_undescribed(called);                                         \
    const Inside inside;                                                                        \
    return real(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);                                \
  }
PRESERVE_MPI_COUNTED_ANY(Session_init)
PRESERVE_MPI_COUNTED_ANY(Comm_create_from_group)
PRESERVE_MPI_COUNTED_ANY(Intercomm_create_from_groups)
PRESERVE_MPI_COUNTED_ANY(Pready)
PRESERVE_MPI_COUNTED_ANY(Pready_range)
PRESERVE_MPI_COUNTED_ANY(Pready_list)
PRESERVE_MPI_COUNTED_ANY(Isendrecv)
PRESERVE_MPI_COUNTED_ANY(Isendrecv_replace)
PRESERVE_MPI_COUNTED_ANY(Allreduce_c)
PRESERVE_MPI_COUNTED_ANY(Reduce_c)
PRESERVE_MPI_COUNTED_ANY(Bcast_c)
PRESERVE_MPI_COUNTED_ANY(Allgather_c)
PRESERVE_MPI_COUNTED_ANY(Allgatherv_c)
PRESERVE_MPI_COUNTED_ANY(Gather_c)
PRESERVE_MPI_COUNTED_ANY(Gatherv_c)
PRESERVE_MPI_COUNTED_ANY(Scatter_c)
PRESERVE_MPI_COUNTED_ANY(Scatterv_c)
PRESERVE_MPI_COUNTED_ANY(Reduce_scatter_c)
PRESERVE_MPI_COUNTED_ANY(Reduce_scatter_block_c)
PRESERVE_MPI_COUNTED_ANY(Alltoall_c)
PRESERVE_MPI_COUNTED_ANY(Alltoallv_c)
PRESERVE_MPI_COUNTED_ANY(Alltoallw_c)
PRESERVE_MPI_COUNTED_ANY(Scan_c)
PRESERVE_MPI_COUNTED_ANY(Exscan_c)
PRESERVE_MPI_COUNTED_ANY(Iallreduce_c)
PRESERVE_MPI_COUNTED_ANY(Ireduce_c)
PRESERVE_MPI_COUNTED_ANY(Ibcast_c)
PRESERVE_MPI_COUNTED_ANY(Iallgather_c)
PRESERVE_MPI_COUNTED_ANY(Iallgatherv_c)
PRESERVE_MPI_COUNTED_ANY(Igather_c)
PRESERVE_MPI_COUNTED_ANY(Igatherv_c)
PRESERVE_MPI_COUNTED_ANY(Iscatter_c)
PRESERVE_MPI_COUNTED_ANY(Iscatterv_c)
PRESERVE_MPI_COUNTED_ANY(Ireduce_scatter_c)
PRESERVE_MPI_COUNTED_ANY(Ireduce_scatter_block_c)
PRESERVE_MPI_COUNTED_ANY(Ialltoall_c)
PRESERVE_MPI_COUNTED_ANY(Ialltoallv_c)
PRESERVE_MPI_COUNTED_ANY(Ialltoallw_c)
PRESERVE_MPI_COUNTED_ANY(Iscan_c)
PRESERVE_MPI_COUNTED_ANY(Iexscan_c)
PRESERVE_MPI_COUNTED_ANY(Neighbor_allgather_c)
PRESERVE_MPI_COUNTED_ANY(Neighbor_allgatherv_c)
PRESERVE_MPI_COUNTED_ANY(Neighbor_alltoall_c)
PRESERVE_MPI_COUNTED_ANY(Neighbor_alltoallv_c)
PRESERVE_MPI_COUNTED_ANY(Neighbor_alltoallw_c)
PRESERVE_MPI_COUNTED_ANY(Send_c)
PRESERVE_MPI_COUNTED_ANY(Ssend_c)
PRESERVE_MPI_COUNTED_ANY(Bsend_c)
PRESERVE_MPI_COUNTED_ANY(Rsend_c)
PRESERVE_MPI_COUNTED_ANY(Recv_c)
PRESERVE_MPI_COUNTED_ANY(Sendrecv_c)
PRESERVE_MPI_COUNTED_ANY(Sendrecv_replace_c)
PRESERVE_MPI_COUNTED_ANY(Isend_c)
PRESERVE_MPI_COUNTED_ANY(Issend_c)
PRESERVE_MPI_COUNTED_ANY(Ibsend_c)
PRESERVE_MPI_COUNTED_ANY(Irsend_c)
PRESERVE_MPI_COUNTED_ANY(Irecv_c)
PRESERVE_MPI_COUNTED_ANY(Isendrecv_c)
PRESERVE_MPI_COUNTED_ANY(Isendrecv_replace_c)
PRESERVE_MPI_COUNTED_ANY(Mrecv_c)
PRESERVE_MPI_COUNTED_ANY(Imrecv_c)
PRESERVE_MPI_COUNTED_ANY(Put_c)
PRESERVE_MPI_COUNTED_ANY(Get_c)
PRESERVE_MPI_COUNTED_ANY(Accumulate_c)
PRESERVE_MPI_COUNTED_ANY(Get_accumulate_c)
PRESERVE_MPI_COUNTED_ANY(Rput_c)
PRESERVE_MPI_COUNTED_ANY(Rget_c)
PRESERVE_MPI_COUNTED_ANY(Raccumulate_c)
PRESERVE_MPI_COUNTED_ANY(Rget_accumulate_c)
