// SPDX-License-Identifier: Apache-2.0
// Wrappers of the MPI collectives, blocking and not. `bytes` is what one rank contributes: count
// times size of the type; for all-to-all and reduce-scatter the whole send buffer, for scatter what
// it gets.
#include "hooks/mpi/calls.h"

using namespace preserve;
using namespace preserve::collector;

namespace {

struct Part {
  int64_t count;
  MPI_Datatype type;
};
// What this rank gives, or with MPI_IN_PLACE what the other side of the call says about it.
Part one_part(const void* buffer, int64_t count, MPI_Datatype type, int64_t other_count,
              MPI_Datatype other_type) {
  return buffer == MPI_IN_PLACE ? Part{other_count, other_type} : Part{count, type};
}

Call part_call(spool::MpiFunction function, const Part& part, MPI_Comm comm, int32_t root = -1) {
  return {function, message_bytes(part.count, part.type), part.type, comm, root};
}

// This rank's entry of an array of counts; only looked at where MPI says that it is significant.
int64_t own_count(const void* buffer, const int* counts, MPI_Comm comm) {
  if (buffer != MPI_IN_PLACE || counts == nullptr) return -1;
  const int rank = communicator_rank(comm);
  return rank < 0 ? -1 : counts[rank];
}

int64_t sum(const int* counts, MPI_Comm comm) {
  if (counts == nullptr) return -1;
  int64_t total = 0;
  for (int i = communicator_size(comm) - 1; i >= 0; --i) total += counts[i];
  return total;
}

int64_t for_each_rank(int64_t count, MPI_Comm comm) {
  return count * communicator_size(comm);
}

}  // namespace

PRESERVE_EXPORT int MPI_Allreduce(const void* send, void* receive, int count, MPI_Datatype type,
                                  MPI_Op op, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Allreduce)>("PMPI_Allreduce");
  const auto describe = [&] {
    return Call{spool::kAllreduce, message_bytes(count, type), type, comm};
  };
  return blocking(describe, [&] { return call(send, receive, count, type, op, comm); });
}
PRESERVE_EXPORT int MPI_Iallreduce(const void* send, void* receive, int count, MPI_Datatype type,
                                   MPI_Op op, MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Iallreduce)>("PMPI_Iallreduce");
  const auto describe = [&] {
    return Call{spool::kIallreduce, message_bytes(count, type), type, comm};
  };
  return non_blocking(request, describe,
                      [&] { return call(send, receive, count, type, op, comm, request); });
}

PRESERVE_EXPORT int MPI_Reduce(const void* send, void* receive, int count, MPI_Datatype type,
                               MPI_Op op, int root, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Reduce)>("PMPI_Reduce");
  const auto describe = [&] {
    return Call{spool::kReduce, message_bytes(count, type), type, comm, root};
  };
  return blocking(describe, [&] { return call(send, receive, count, type, op, root, comm); });
}
PRESERVE_EXPORT int MPI_Ireduce(const void* send, void* receive, int count, MPI_Datatype type,
                                MPI_Op op, int root, MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Ireduce)>("PMPI_Ireduce");
  const auto describe = [&] {
    return Call{spool::kIreduce, message_bytes(count, type), type, comm, root};
  };
  return non_blocking(request, describe,
                      [&] { return call(send, receive, count, type, op, root, comm, request); });
}

PRESERVE_EXPORT int MPI_Bcast(void* buffer, int count, MPI_Datatype type, int root, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Bcast)>("PMPI_Bcast");
  const auto describe = [&] {
    return Call{spool::kBcast, message_bytes(count, type), type, comm, root};
  };
  return blocking(describe, [&] { return call(buffer, count, type, root, comm); });
}
PRESERVE_EXPORT int MPI_Ibcast(void* buffer, int count, MPI_Datatype type, int root, MPI_Comm comm,
                               MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Ibcast)>("PMPI_Ibcast");
  const auto describe = [&] {
    return Call{spool::kIbcast, message_bytes(count, type), type, comm, root};
  };
  return non_blocking(request, describe,
                      [&] { return call(buffer, count, type, root, comm, request); });
}

PRESERVE_EXPORT int MPI_Scan(const void* send, void* receive, int count, MPI_Datatype type,
                             MPI_Op op, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Scan)>("PMPI_Scan");
  const auto describe = [&] { return Call{spool::kScan, message_bytes(count, type), type, comm}; };
  return blocking(describe, [&] { return call(send, receive, count, type, op, comm); });
}
PRESERVE_EXPORT int MPI_Iscan(const void* send, void* receive, int count, MPI_Datatype type,
                              MPI_Op op, MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Iscan)>("PMPI_Iscan");
  const auto describe = [&] { return Call{spool::kIscan, message_bytes(count, type), type, comm}; };
  return non_blocking(request, describe,
                      [&] { return call(send, receive, count, type, op, comm, request); });
}

PRESERVE_EXPORT int MPI_Exscan(const void* send, void* receive, int count, MPI_Datatype type,
                               MPI_Op op, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Exscan)>("PMPI_Exscan");
  const auto describe = [&] {
    return Call{spool::kExscan, message_bytes(count, type), type, comm};
  };
  return blocking(describe, [&] { return call(send, receive, count, type, op, comm); });
}
PRESERVE_EXPORT int MPI_Iexscan(const void* send, void* receive, int count, MPI_Datatype type,
                                MPI_Op op, MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Iexscan)>("PMPI_Iexscan");
  const auto describe = [&] {
    return Call{spool::kIexscan, message_bytes(count, type), type, comm};
  };
  return non_blocking(request, describe,
                      [&] { return call(send, receive, count, type, op, comm, request); });
}

PRESERVE_EXPORT int MPI_Barrier(MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Barrier)>("PMPI_Barrier");
  const auto describe = [&] { return Call{spool::kBarrier, 0, nullptr, comm}; };
  return blocking(describe, [&] { return call(comm); });
}
PRESERVE_EXPORT int MPI_Ibarrier(MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Ibarrier)>("PMPI_Ibarrier");
  const auto describe = [&] { return Call{spool::kIbarrier, 0, nullptr, comm}; };
  return non_blocking(request, describe, [&] { return call(comm, request); });
}

PRESERVE_EXPORT int MPI_Allgather(const void* send, int send_count, MPI_Datatype send_type,
                                  void* receive, int receive_count, MPI_Datatype receive_type,
                                  MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Allgather)>("PMPI_Allgather");
  const auto describe = [&] {
    return part_call(spool::kAllgather,
                     one_part(send, send_count, send_type, receive_count, receive_type), comm);
  };
  return blocking(describe, [&] {
    return call(send, send_count, send_type, receive, receive_count, receive_type, comm);
  });
}
PRESERVE_EXPORT int MPI_Iallgather(const void* send, int send_count, MPI_Datatype send_type,
                                   void* receive, int receive_count, MPI_Datatype receive_type,
                                   MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Iallgather)>("PMPI_Iallgather");
  const auto describe = [&] {
    return part_call(spool::kIallgather,
                     one_part(send, send_count, send_type, receive_count, receive_type), comm);
  };
  return non_blocking(request, describe, [&] {
    return call(send, send_count, send_type, receive, receive_count, receive_type, comm, request);
  });
}

PRESERVE_EXPORT int MPI_Allgatherv(const void* send, int send_count, MPI_Datatype send_type,
                                   void* receive, const int* receive_counts,
                                   const int* displacements, MPI_Datatype receive_type,
                                   MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Allgatherv)>("PMPI_Allgatherv");
  const auto describe = [&] {
    return part_call(
        spool::kAllgatherv,
        one_part(send, send_count, send_type, own_count(send, receive_counts, comm), receive_type),
        comm);
  };
  return blocking(describe, [&] {
    return call(send, send_count, send_type, receive, receive_counts, displacements, receive_type,
                comm);
  });
}
PRESERVE_EXPORT int MPI_Iallgatherv(const void* send, int send_count, MPI_Datatype send_type,
                                    void* receive, const int* receive_counts,
                                    const int* displacements, MPI_Datatype receive_type,
                                    MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Iallgatherv)>("PMPI_Iallgatherv");
  const auto describe = [&] {
    return part_call(
        spool::kIallgatherv,
        one_part(send, send_count, send_type, own_count(send, receive_counts, comm), receive_type),
        comm);
  };
  return non_blocking(request, describe, [&] {
    return call(send, send_count, send_type, receive, receive_counts, displacements, receive_type,
                comm, request);
  });
}

PRESERVE_EXPORT int MPI_Gather(const void* send, int send_count, MPI_Datatype send_type,
                               void* receive, int receive_count, MPI_Datatype receive_type,
                               int root, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Gather)>("PMPI_Gather");
  const auto describe = [&] {
    return part_call(spool::kGather,
                     one_part(send, send_count, send_type, receive_count, receive_type), comm,
                     root);
  };
  return blocking(describe, [&] {
    return call(send, send_count, send_type, receive, receive_count, receive_type, root, comm);
  });
}
PRESERVE_EXPORT int MPI_Igather(const void* send, int send_count, MPI_Datatype send_type,
                                void* receive, int receive_count, MPI_Datatype receive_type,
                                int root, MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Igather)>("PMPI_Igather");
  const auto describe = [&] {
    return part_call(spool::kIgather,
                     one_part(send, send_count, send_type, receive_count, receive_type), comm,
                     root);
  };
  return non_blocking(request, describe, [&] {
    return call(send, send_count, send_type, receive, receive_count, receive_type, root, comm,
                request);
  });
}

PRESERVE_EXPORT int MPI_Gatherv(const void* send, int send_count, MPI_Datatype send_type,
                                void* receive, const int* receive_counts, const int* displacements,
                                MPI_Datatype receive_type, int root, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Gatherv)>("PMPI_Gatherv");
  const auto describe = [&] {
    return part_call(
        spool::kGatherv,
        one_part(send, send_count, send_type, own_count(send, receive_counts, comm), receive_type),
        comm, root);
  };
  return blocking(describe, [&] {
    return call(send, send_count, send_type, receive, receive_counts, displacements, receive_type,
                root, comm);
  });
}
PRESERVE_EXPORT int MPI_Igatherv(const void* send, int send_count, MPI_Datatype send_type,
                                 void* receive, const int* receive_counts, const int* displacements,
                                 MPI_Datatype receive_type, int root, MPI_Comm comm,
                                 MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Igatherv)>("PMPI_Igatherv");
  const auto describe = [&] {
    return part_call(
        spool::kIgatherv,
        one_part(send, send_count, send_type, own_count(send, receive_counts, comm), receive_type),
        comm, root);
  };
  return non_blocking(request, describe, [&] {
    return call(send, send_count, send_type, receive, receive_counts, displacements, receive_type,
                root, comm, request);
  });
}

PRESERVE_EXPORT int MPI_Scatter(const void* send, int send_count, MPI_Datatype send_type,
                                void* receive, int receive_count, MPI_Datatype receive_type,
                                int root, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Scatter)>("PMPI_Scatter");
  const auto describe = [&] {
    return part_call(spool::kScatter,
                     one_part(receive, receive_count, receive_type, send_count, send_type), comm,
                     root);
  };
  return blocking(describe, [&] {
    return call(send, send_count, send_type, receive, receive_count, receive_type, root, comm);
  });
}
PRESERVE_EXPORT int MPI_Iscatter(const void* send, int send_count, MPI_Datatype send_type,
                                 void* receive, int receive_count, MPI_Datatype receive_type,
                                 int root, MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Iscatter)>("PMPI_Iscatter");
  const auto describe = [&] {
    return part_call(spool::kIscatter,
                     one_part(receive, receive_count, receive_type, send_count, send_type), comm,
                     root);
  };
  return non_blocking(request, describe, [&] {
    return call(send, send_count, send_type, receive, receive_count, receive_type, root, comm,
                request);
  });
}

PRESERVE_EXPORT int MPI_Scatterv(const void* send, const int* send_counts, const int* displacements,
                                 MPI_Datatype send_type, void* receive, int receive_count,
                                 MPI_Datatype receive_type, int root, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Scatterv)>("PMPI_Scatterv");
  const auto describe = [&] {
    return part_call(spool::kScatterv,
                     one_part(receive, receive_count, receive_type,
                              own_count(receive, send_counts, comm), send_type),
                     comm, root);
  };
  return blocking(describe, [&] {
    return call(send, send_counts, displacements, send_type, receive, receive_count, receive_type,
                root, comm);
  });
}
PRESERVE_EXPORT int MPI_Iscatterv(const void* send, const int* send_counts,
                                  const int* displacements, MPI_Datatype send_type, void* receive,
                                  int receive_count, MPI_Datatype receive_type, int root,
                                  MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Iscatterv)>("PMPI_Iscatterv");
  const auto describe = [&] {
    return part_call(spool::kIscatterv,
                     one_part(receive, receive_count, receive_type,
                              own_count(receive, send_counts, comm), send_type),
                     comm, root);
  };
  return non_blocking(request, describe, [&] {
    return call(send, send_counts, displacements, send_type, receive, receive_count, receive_type,
                root, comm, request);
  });
}

PRESERVE_EXPORT int MPI_Reduce_scatter(const void* send, void* receive, const int* counts,
                                       MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Reduce_scatter)>("PMPI_Reduce_scatter");
  const auto describe = [&] {
    return Call{spool::kReduceScatter, message_bytes(sum(counts, comm), type), type, comm};
  };
  return blocking(describe, [&] { return call(send, receive, counts, type, op, comm); });
}
PRESERVE_EXPORT int MPI_Ireduce_scatter(const void* send, void* receive, const int* counts,
                                        MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                                        MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Ireduce_scatter)>("PMPI_Ireduce_scatter");
  const auto describe = [&] {
    return Call{spool::kIreduceScatter, message_bytes(sum(counts, comm), type), type, comm};
  };
  return non_blocking(request, describe,
                      [&] { return call(send, receive, counts, type, op, comm, request); });
}

PRESERVE_EXPORT int MPI_Reduce_scatter_block(const void* send, void* receive, int count,
                                             MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Reduce_scatter_block)>("PMPI_Reduce_scatter_block");
  const auto describe = [&] {
    return Call{spool::kReduceScatterBlock, message_bytes(for_each_rank(count, comm), type), type,
                comm};
  };
  return blocking(describe, [&] { return call(send, receive, count, type, op, comm); });
}
PRESERVE_EXPORT int MPI_Ireduce_scatter_block(const void* send, void* receive, int count,
                                              MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                                              MPI_Request* request) {
  static const auto call =
      real<decltype(&PMPI_Ireduce_scatter_block)>("PMPI_Ireduce_scatter_block");
  const auto describe = [&] {
    return Call{spool::kIreduceScatterBlock, message_bytes(for_each_rank(count, comm), type), type,
                comm};
  };
  return non_blocking(request, describe,
                      [&] { return call(send, receive, count, type, op, comm, request); });
}

PRESERVE_EXPORT int MPI_Alltoall(const void* send, int send_count, MPI_Datatype send_type,
                                 void* receive, int receive_count, MPI_Datatype receive_type,
                                 MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Alltoall)>("PMPI_Alltoall");
  const auto describe = [&] {
    return part_call(spool::kAlltoall,
                     one_part(send, for_each_rank(send_count, comm), send_type,
                              for_each_rank(receive_count, comm), receive_type),
                     comm);
  };
  return blocking(describe, [&] {
    return call(send, send_count, send_type, receive, receive_count, receive_type, comm);
  });
}
PRESERVE_EXPORT int MPI_Ialltoall(const void* send, int send_count, MPI_Datatype send_type,
                                  void* receive, int receive_count, MPI_Datatype receive_type,
                                  MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Ialltoall)>("PMPI_Ialltoall");
  const auto describe = [&] {
    return part_call(spool::kIalltoall,
                     one_part(send, for_each_rank(send_count, comm), send_type,
                              for_each_rank(receive_count, comm), receive_type),
                     comm);
  };
  return non_blocking(request, describe, [&] {
    return call(send, send_count, send_type, receive, receive_count, receive_type, comm, request);
  });
}

PRESERVE_EXPORT int MPI_Alltoallv(const void* send, const int* send_counts,
                                  const int* send_displacements, MPI_Datatype send_type,
                                  void* receive, const int* receive_counts,
                                  const int* receive_displacements, MPI_Datatype receive_type,
                                  MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Alltoallv)>("PMPI_Alltoallv");
  const auto describe = [&] {
    return part_call(spool::kAlltoallv,
                     one_part(send, send == MPI_IN_PLACE ? 0 : sum(send_counts, comm), send_type,
                              sum(receive_counts, comm), receive_type),
                     comm);
  };
  return blocking(describe, [&] {
    return call(send, send_counts, send_displacements, send_type, receive, receive_counts,
                receive_displacements, receive_type, comm);
  });
}
PRESERVE_EXPORT int MPI_Ialltoallv(const void* send, const int* send_counts,
                                   const int* send_displacements, MPI_Datatype send_type,
                                   void* receive, const int* receive_counts,
                                   const int* receive_displacements, MPI_Datatype receive_type,
                                   MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Ialltoallv)>("PMPI_Ialltoallv");
  const auto describe = [&] {
    return part_call(spool::kIalltoallv,
                     one_part(send, send == MPI_IN_PLACE ? 0 : sum(send_counts, comm), send_type,
                              sum(receive_counts, comm), receive_type),
                     comm);
  };
  return non_blocking(request, describe, [&] {
    return call(send, send_counts, send_displacements, send_type, receive, receive_counts,
                receive_displacements, receive_type, comm, request);
  });
}
