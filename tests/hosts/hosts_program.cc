// SPDX-License-Identifier: Apache-2.0
// hosts_program COUNT PAUSE_US: so many allreduces, each after a pause, as any MPI program has
// them.
#include <mpi.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const int count = argc > 1 ? ::atoi(argv[1]) : 10;
  const int pause_us = argc > 2 ? ::atoi(argv[2]) : 0;
  double mine[64] = {}, all[64];
  for (int i = 0; i < count; ++i) {
    ::usleep(static_cast<unsigned>(pause_us));
    MPI_Allreduce(mine, all, 64, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  }
  MPI_Finalize();
  return 0;
}
