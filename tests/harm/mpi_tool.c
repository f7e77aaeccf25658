// SPDX-License-Identifier: Apache-2.0
// Another tool on MPI's profiling interface: counts one function. Preloaded, or linked into a
// program.
#include <mpi.h>
#include <stdio.h>

static int calls;

int MPI_Allreduce(const void* in, void* out, int count, MPI_Datatype type, MPI_Op op,
                  MPI_Comm comm) {
  ++calls;
  return PMPI_Allreduce(in, out, count, type, op, comm);
}

int MPI_Finalize(void) {
  printf("the tool saw %d MPI_Allreduce\n", calls);
  fflush(stdout);
  return PMPI_Finalize();
}
