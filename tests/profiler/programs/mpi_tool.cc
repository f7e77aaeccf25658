// SPDX-License-Identifier: Apache-2.0
// Another tool that counts calls through MPI's profiling interface; preloaded, or linked into a
// program.
#include <mpi.h>

#include <cstdio>

namespace {
int calls = 0;
}  // namespace

extern "C" int MPI_Allreduce(const void* send, void* receive, int count, MPI_Datatype type,
                             MPI_Op op, MPI_Comm comm) {
  ++calls;
  return PMPI_Allreduce(send, receive, count, type, op, comm);
}
extern "C" int MPI_Finalize() {
  std::printf("tool saw %d\n", calls);
  std::fflush(stdout);
  return PMPI_Finalize();
}
