// SPDX-License-Identifier: Apache-2.0
// A serial stand-in for MPI, as solvers ship one: no PMPI_ names, handles are numbers.
extern "C" {
int MPI_Init(int*, char***) {
  return 0;
}
int MPI_Barrier(int) {
  return 0;
}
int MPI_Finalize() {
  return 0;
}
}
