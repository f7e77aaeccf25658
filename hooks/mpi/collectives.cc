// SPDX-License-Identifier: Apache-2.0
// Wrappers of the MPI collectives, blocking and not. `bytes` is what one rank contributes: count
// times size of the type; for all-to-all and reduce-scatter the whole send buffer, for scatter what
// it gets. Of the arguments only those are read that the MPI standard calls significant on this
// rank.
#include "hooks/mpi/calls.h"

using namespace preserve;
using namespace preserve::hooks;

namespace {

// In an intercommunicator the root passes MPI_ROOT, and its own group MPI_PROC_NULL: those take no
// part.
Facts rooted_message(int64_t count, MPI_Datatype type, int root, MPI_Comm comm) {
  return is_null_process(root) ? no_message(comm) : message(count, type, comm, root);
}

struct Part {
  int64_t count;
  MPI_Datatype type;
};
// What this rank gives, or with MPI_IN_PLACE what the other half of the arguments says about it.
Part one_part(const void* buffer, int64_t count, MPI_Datatype type, int64_t other_count,
              MPI_Datatype other_type) {
  return is_in_place(buffer) ? Part{other_count, other_type} : Part{count, type};
}
Facts part(const Part& part, MPI_Comm comm) {
  return message(part.count, part.type, comm);
}
// The root of an intercommunicator has the other side's parts, not one of its own.
Facts rooted_part(const Part& part, int root, MPI_Comm comm) {
  if (is_null_process(root) || is_root_of_other_side(root)) return no_message(comm);
  return message(part.count, part.type, comm, root);
}

// This rank's entry of an array of counts, which only MPI_IN_PLACE makes significant.
int64_t own_count(const void* buffer, const int* counts, MPI_Comm comm) {
  if (!is_in_place(buffer) || counts == nullptr) return -1;
  const int rank = communicator_rank(comm);
  return rank < 0 ? -1 : counts[rank];
}

int64_t sum(const int* counts, int ranks) {
  if (counts == nullptr) return -1;
  int64_t total = 0;
  for (int i = 0; i < ranks; ++i) total += counts[i];
  return total;
}

int64_t to_each(int64_t count, MPI_Comm comm) {
  return count * partner_count(comm);
}

}  // namespace

PRESERVE_MPI(Allreduce,
             (const void* send, void* receive, int count, MPI_Datatype type, MPI_Op op,
              MPI_Comm comm),
             (send, receive, count, type, op, comm)) {
  const mpi::Allreduce call{real, send, receive, count, type, op, comm};
  if (!listening()) return call.run();
  Report report(mpi::kAllreduce, message(count, type, comm));
  const int result = listener::mpi_allreduce(call, report.mark());
  report.ended(result);
  return result;
}
PRESERVE_MPI_NONBLOCKING(Iallreduce,
                         (const void* send, void* receive, int count, MPI_Datatype type, MPI_Op op,
                          MPI_Comm comm, MPI_Request* request),
                         (send, receive, count, type, op, comm, request),
                         message(count, type, comm))

// A collective and its non-blocking form, which takes a request in addition.
#define PRESERVE_MPI_BOTH(name, non_blocking_name, parameters, arguments, facts)    \
  PRESERVE_MPI_BLOCKING(name, parameters, arguments, facts)                         \
  PRESERVE_MPI_NONBLOCKING(non_blocking_name,                                       \
                           (PRESERVE_MPI_INSIDE parameters, MPI_Request * request), \
                           (PRESERVE_MPI_INSIDE arguments, request), facts)
#define PRESERVE_MPI_INSIDE(...) __VA_ARGS__

PRESERVE_MPI_BOTH(Scan, Iscan,
                  (const void* send, void* receive, int count, MPI_Datatype type, MPI_Op op,
                   MPI_Comm comm),
                  (send, receive, count, type, op, comm), message(count, type, comm))
PRESERVE_MPI_BOTH(Exscan, Iexscan,
                  (const void* send, void* receive, int count, MPI_Datatype type, MPI_Op op,
                   MPI_Comm comm),
                  (send, receive, count, type, op, comm), message(count, type, comm))
PRESERVE_MPI_BOTH(Reduce, Ireduce,
                  (const void* send, void* receive, int count, MPI_Datatype type, MPI_Op op,
                   int root, MPI_Comm comm),
                  (send, receive, count, type, op, root, comm),
                  rooted_message(count, type, root, comm))
PRESERVE_MPI_BOTH(Bcast, Ibcast,
                  (void* buffer, int count, MPI_Datatype type, int root, MPI_Comm comm),
                  (buffer, count, type, root, comm), rooted_message(count, type, root, comm))
PRESERVE_MPI_BOTH(Barrier, Ibarrier, (MPI_Comm comm), (comm), no_message(comm))
PRESERVE_MPI_BOTH(Allgather, Iallgather,
                  (const void* send, int send_count, MPI_Datatype send_type, void* receive,
                   int receive_count, MPI_Datatype receive_type, MPI_Comm comm),
                  (send, send_count, send_type, receive, receive_count, receive_type, comm),
                  part(one_part(send, send_count, send_type, receive_count, receive_type), comm))
PRESERVE_MPI_BOTH(
    Allgatherv, Iallgatherv,
    (const void* send, int send_count, MPI_Datatype send_type, void* receive,
     const int* receive_counts, const int* displacements, MPI_Datatype receive_type, MPI_Comm comm),
    (send, send_count, send_type, receive, receive_counts, displacements, receive_type, comm),
    part(one_part(send, send_count, send_type, own_count(send, receive_counts, comm), receive_type),
         comm))
PRESERVE_MPI_BOTH(Gather, Igather,
                  (const void* send, int send_count, MPI_Datatype send_type, void* receive,
                   int receive_count, MPI_Datatype receive_type, int root, MPI_Comm comm),
                  (send, send_count, send_type, receive, receive_count, receive_type, root, comm),
                  rooted_part(one_part(send, send_count, send_type, receive_count, receive_type),
                              root, comm))
PRESERVE_MPI_BOTH(Gatherv, Igatherv,
                  (const void* send, int send_count, MPI_Datatype send_type, void* receive,
                   const int* receive_counts, const int* displacements, MPI_Datatype receive_type,
                   int root, MPI_Comm comm),
                  (send, send_count, send_type, receive, receive_counts, displacements,
                   receive_type, root, comm),
                  rooted_part(one_part(send, send_count, send_type,
                                       own_count(send, receive_counts, comm), receive_type),
                              root, comm))
PRESERVE_MPI_BOTH(Scatter, Iscatter,
                  (const void* send, int send_count, MPI_Datatype send_type, void* receive,
                   int receive_count, MPI_Datatype receive_type, int root, MPI_Comm comm),
                  (send, send_count, send_type, receive, receive_count, receive_type, root, comm),
                  rooted_part(one_part(receive, receive_count, receive_type, send_count, send_type),
                              root, comm))
PRESERVE_MPI_BOTH(Scatterv, Iscatterv,
                  (const void* send, const int* send_counts, const int* displacements,
                   MPI_Datatype send_type, void* receive, int receive_count,
                   MPI_Datatype receive_type, int root, MPI_Comm comm),
                  (send, send_counts, displacements, send_type, receive, receive_count,
                   receive_type, root, comm),
                  rooted_part(one_part(receive, receive_count, receive_type,
                                       own_count(receive, send_counts, comm), send_type),
                              root, comm))
PRESERVE_MPI_BOTH(Reduce_scatter, Ireduce_scatter,
                  (const void* send, void* receive, const int* counts, MPI_Datatype type, MPI_Op op,
                   MPI_Comm comm),
                  (send, receive, counts, type, op, comm),
                  message(sum(counts, communicator_size(comm)), type, comm))
PRESERVE_MPI_BOTH(Reduce_scatter_block, Ireduce_scatter_block,
                  (const void* send, void* receive, int count, MPI_Datatype type, MPI_Op op,
                   MPI_Comm comm),
                  (send, receive, count, type, op, comm),
                  message(int64_t{count} * communicator_size(comm), type, comm))
PRESERVE_MPI_BOTH(Alltoall, Ialltoall,
                  (const void* send, int send_count, MPI_Datatype send_type, void* receive,
                   int receive_count, MPI_Datatype receive_type, MPI_Comm comm),
                  (send, send_count, send_type, receive, receive_count, receive_type, comm),
                  part(one_part(send, to_each(send_count, comm), send_type,
                                to_each(receive_count, comm), receive_type),
                       comm))
PRESERVE_MPI_BOTH(Alltoallv, Ialltoallv,
                  (const void* send, const int* send_counts, const int* send_displacements,
                   MPI_Datatype send_type, void* receive, const int* receive_counts,
                   const int* receive_displacements, MPI_Datatype receive_type, MPI_Comm comm),
                  (send, send_counts, send_displacements, send_type, receive, receive_counts,
                   receive_displacements, receive_type, comm),
                  part(one_part(send, is_in_place(send) ? 0 : sum(send_counts, partner_count(comm)),
                                send_type, sum(receive_counts, partner_count(comm)), receive_type),
                       comm))
