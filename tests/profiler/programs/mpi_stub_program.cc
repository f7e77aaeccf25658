// SPDX-License-Identifier: Apache-2.0
#include <nvtx3/nvToolsExt.h>

#include <cstdio>

extern "C" {
int MPI_Init(int*, char***);
int MPI_Barrier(int);
int MPI_Finalize();
}

int main(int argc, char** argv) {
  nvtxMarkA("a recording begins");
  if (MPI_Init(&argc, &argv) != 0 || MPI_Barrier(0) != 0) return 1;
  std::puts("ok");
  return MPI_Finalize();
}
