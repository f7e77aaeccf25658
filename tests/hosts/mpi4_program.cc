// SPDX-License-Identifier: Apache-2.0
// mpi4_program world|session: what MPI 4 brought. Large counts and partitioned messages, over
// MPI_COMM_WORLD or over a communicator of a session, without MPI_Init. Prints what it computed.
#include <mpi.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char** argv) {
  const bool world = argc < 2 || ::strcmp(argv[1], "session") != 0;
  MPI_Session session = MPI_SESSION_NULL;
  MPI_Comm all = MPI_COMM_WORLD;
  if (world) {
    MPI_Init(&argc, &argv);
  } else {
    MPI_Group group;
    MPI_Session_init(MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &session);
    MPI_Group_from_session_pset(session, "mpi://WORLD", &group);
    MPI_Comm_create_from_group(group, "preserve.test", MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &all);
    MPI_Group_free(&group);
  }
  int rank = 0, ranks = 0;
  MPI_Comm_rank(all, &rank);
  MPI_Comm_size(all, &ranks);
  double mine[64], sum[64];
  for (int i = 0; i < 64; ++i) mine[i] = rank + i;
  MPI_Allreduce(mine, sum, 64, MPI_DOUBLE, MPI_SUM, all);
  MPI_Allreduce_c(mine, sum, 64, MPI_DOUBLE, MPI_SUM, all);
  MPI_Bcast_c(mine, 64, MPI_DOUBLE, 0, all);
  double parts[4] = {1.0 + rank, 2, 3, 4}, got[4] = {};
  MPI_Request send, receive;
  MPI_Psend_init(parts, 2, 2, MPI_DOUBLE, (rank + 1) % ranks, 7, all, MPI_INFO_NULL, &send);
  MPI_Precv_init(got, 2, 2, MPI_DOUBLE, (rank + ranks - 1) % ranks, 7, all, MPI_INFO_NULL,
                 &receive);
  for (int turn = 0; turn < 3; ++turn) {
    MPI_Start(&receive);
    MPI_Start(&send);
    MPI_Pready(0, send);
    MPI_Pready(1, send);
    MPI_Wait(&send, MPI_STATUS_IGNORE);
    MPI_Wait(&receive, MPI_STATUS_IGNORE);
  }
  MPI_Request_free(&send);
  MPI_Request_free(&receive);
  ::printf("%d of %d: %g %g\n", rank, ranks, sum[63], got[0]);
  if (world) {
    MPI_Finalize();
  } else {
    MPI_Comm_free(&all);
    MPI_Session_finalize(&session);
  }
  return 0;
}
