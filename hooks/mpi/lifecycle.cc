// SPDX-License-Identifier: Apache-2.0
// Wrappers of what begins and ends: the library itself and its communicators.
#include "hooks/mpi/calls.h"

using namespace preserve;
using namespace preserve::hooks;

namespace {

void report_rank(int result) {
  if (result != MPI_SUCCESS || !listening()) return;
  const int rank = communicator_rank(world()), ranks = communicator_size(world());
  if (rank < 0 || ranks <= 0) return;
  if (was_spawned()) return listener::mpi_spawned();
  char version[kMostVersionBytes];
  listener::mpi_rank(rank, ranks, {version, library_version(version)});
}

void report_ending() {
  if (listener::mpi_wanted()) listener::mpi_ending();
}

void report_left() {
  if (listener::mpi_wanted()) listener::mpi_left();
}

}  // namespace

PRESERVE_MPI(Init, (int* argc, char*** argv), (argc, argv)) {
  const int result = blocking<mpi::function_named("MPI_Init")>([] { return Facts{}; },
                                                               [&] { return real(argc, argv); });
  report_rank(result);
  return result;
}

PRESERVE_MPI(Init_thread, (int* argc, char*** argv, int required, int* provided),
             (argc, argv, required, provided)) {
  const int result = blocking<mpi::function_named("MPI_Init_thread")>(
      [] { return Facts{}; }, [&] { return real(argc, argv, required, provided); });
  report_rank(result);
  return result;
}

// Launchers may kill what is left once every rank has finalised. But a rank that comes late into
// MPI_Finalize can find the others waiting where they answer it no more (MPICH over UCX before 4.2,
// from 20 ms on): what is to be done for the end is done beside it, and waited for behind it.
PRESERVE_MPI(Finalize, (), ()) {
  report_ending();
  const int result =
      blocking<mpi::function_named("MPI_Finalize")>([] { return Facts{}; }, [&] { return real(); });
  report_left();
  return result;
}

PRESERVE_MPI(Abort, (MPI_Comm comm, int code), (comm, code)) {
  report_ending();
  report_left();
  return real(comm, code);
}

// --- communicators; MPI_Comm_create_group and MPI_Intercomm_create are called by the members alone
// ---

#define PRESERVE_MPI_MAKES(name, parameters, arguments, how) \
  PRESERVE_MPI(name, parameters, arguments) {                \
    Making making = how;                                     \
    const int result = real arguments;                       \
    making.made(result, newcomm);                            \
    return result;                                           \
  }

PRESERVE_MPI_MAKES(Comm_dup, (MPI_Comm comm, MPI_Comm* newcomm), (comm, newcomm), Making(comm))
PRESERVE_MPI_MAKES(Comm_dup_with_info, (MPI_Comm comm, MPI_Info info, MPI_Comm* newcomm),
                   (comm, info, newcomm), Making(comm))
PRESERVE_MPI(Comm_idup, (MPI_Comm comm, MPI_Comm* newcomm, MPI_Request* request),
             (comm, newcomm, request)) {
  Making making(comm);
  const int result = real(comm, newcomm, request);
  making.copied(result, newcomm);
  return result;
}
PRESERVE_MPI_MAKES(Comm_split, (MPI_Comm comm, int color, int key, MPI_Comm* newcomm),
                   (comm, color, key, newcomm), Making(comm))
PRESERVE_MPI_MAKES(Comm_split_type,
                   (MPI_Comm comm, int split_type, int key, MPI_Info info, MPI_Comm* newcomm),
                   (comm, split_type, key, info, newcomm), Making(comm))
PRESERVE_MPI_MAKES(Comm_create, (MPI_Comm comm, MPI_Group group, MPI_Comm* newcomm),
                   (comm, group, newcomm), Making(comm))
PRESERVE_MPI_MAKES(Cart_create,
                   (MPI_Comm comm, int ndims, const int dims[], const int periods[], int reorder,
                    MPI_Comm* newcomm),
                   (comm, ndims, dims, periods, reorder, newcomm), Making(comm))
PRESERVE_MPI_MAKES(Cart_sub, (MPI_Comm comm, const int remain_dims[], MPI_Comm* newcomm),
                   (comm, remain_dims, newcomm), Making(comm))
PRESERVE_MPI_MAKES(Graph_create,
                   (MPI_Comm comm, int nnodes, const int index[], const int edges[], int reorder,
                    MPI_Comm* newcomm),
                   (comm, nnodes, index, edges, reorder, newcomm), Making(comm))
PRESERVE_MPI_MAKES(Dist_graph_create,
                   (MPI_Comm comm, int n, const int nodes[], const int degrees[],
                    const int targets[], const int weights[], MPI_Info info, int reorder,
                    MPI_Comm* newcomm),
                   (comm, n, nodes, degrees, targets, weights, info, reorder, newcomm),
                   Making(comm))
PRESERVE_MPI_MAKES(Dist_graph_create_adjacent,
                   (MPI_Comm comm, int indegree, const int sources[], const int sourceweights[],
                    int outdegree, const int destinations[], const int destweights[], MPI_Info info,
                    int reorder, MPI_Comm* newcomm),
                   (comm, indegree, sources, sourceweights, outdegree, destinations, destweights,
                    info, reorder, newcomm),
                   Making(comm))
PRESERVE_MPI_MAKES(Intercomm_merge, (MPI_Comm intercomm, int high, MPI_Comm* newcomm),
                   (intercomm, high, newcomm), Making(intercomm))
PRESERVE_MPI_MAKES(Comm_create_group, (MPI_Comm comm, MPI_Group group, int tag, MPI_Comm* newcomm),
                   (comm, group, tag, newcomm),
                   Making(Making::group, number_of(comm) ^ static_cast<uint32_t>(tag)))
PRESERVE_MPI_MAKES(Intercomm_create,
                   (MPI_Comm local_comm, int local_leader, MPI_Comm bridge_comm, int remote_leader,
                    int tag, MPI_Comm* newcomm),
                   (local_comm, local_leader, bridge_comm, remote_leader, tag, newcomm),
                   Making(Making::group, static_cast<uint32_t>(tag)))

PRESERVE_MPI(Comm_free, (MPI_Comm * comm), (comm)) {
  communicator_freed(comm);
  return real(comm);
}

PRESERVE_MPI(Comm_disconnect, (MPI_Comm * comm), (comm)) {
  communicator_freed(comm);
  return real(comm);
}
