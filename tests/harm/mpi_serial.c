// SPDX-License-Identifier: Apache-2.0
// Linked with the stand-in of profiler/programs/mpi_stub.cc.
#include <stdio.h>

int MPI_Init(int* argc, char*** argv);
int MPI_Barrier(int communicator);
int MPI_Allreduce(const void* in, void* out, int count, int type, int op, int communicator);
int MPI_Finalize(void);

int main(int argc, char** argv) {
  int in = 3, out = 0;
  MPI_Init(&argc, &argv);
  MPI_Barrier(0);
  MPI_Allreduce(&in, &out, 1, 0, 0, 0);
  printf("sum %d\n", out);
  return MPI_Finalize();
}
