// SPDX-License-Identifier: Apache-2.0
// MPI programs that end or communicate in unusual ways, as the first argument says. Each rank
// prints lines that are the same in every run.
#include <mpi.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int rank, size;

static void say(const char* what, int value) {
  char line[80];
  const int length = snprintf(line, sizeof(line), "rank %d: %s %d\n", rank, what, value);
  (void)!write(1, line, (size_t)length);
}

static void sum(MPI_Comm communicator) {
  int mine = rank + 1, all = 0;
  MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_SUM, communicator);
  say("sum", all);
}

static void* late_thread(void* unused) {
  (void)unused;
  usleep(40000);
  say("thread", 0);
  return NULL;
}
static void end_of_main_thread(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, late_thread, NULL);
  MPI_Finalize();
  pthread_exit(NULL);
}

// mpirun ends the others at once, so nothing is printed.
static void no_finalize(void) {
  MPI_Barrier(MPI_COMM_WORLD);
  _exit(0);
}

static void aborts(void) {
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) MPI_Abort(MPI_COMM_WORLD, 7);
  MPI_Barrier(MPI_COMM_WORLD);
}

static void communicators(void) {
  MPI_Comm half, copy;
  MPI_Request request;
  MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &half);
  sum(half);
  MPI_Comm_free(&half);
  MPI_Comm_idup(MPI_COMM_WORLD, &copy, &request);
  MPI_Wait(&request, MPI_STATUS_IGNORE);
  sum(copy);
  MPI_Comm_free(&copy);
  MPI_Comm_split(MPI_COMM_WORLD, rank == 0 ? 0 : MPI_UNDEFINED, 0, &half);
  say("undefined", half == MPI_COMM_NULL);
  if (half != MPI_COMM_NULL) MPI_Comm_free(&half);
}

// Integers right before a page that cannot be read.
static int* before_a_wall(int count) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char* memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(memory + page, page, PROT_NONE);
  int* at = (int*)(memory + page) - count;
  for (int i = 0; i < count; ++i) at[i] = 1;
  return at;
}

// Groups of size - 1 and 1: counts are as many as there are ranks on the other side.
static void between_groups(void) {
  MPI_Comm local, both;
  const int last = rank == size - 1;
  int others = 0, in[16] = {0}, out[16] = {0};
  MPI_Comm_split(MPI_COMM_WORLD, last, rank, &local);
  MPI_Intercomm_create(local, 0, MPI_COMM_WORLD, last ? 0 : size - 1, 9, &both);
  MPI_Comm_remote_size(both, &others);
  int* counts = before_a_wall(others);
  int* places = before_a_wall(others);
  for (int i = 0; i < others; ++i) places[i] = i;
  MPI_Alltoallv(in, counts, places, MPI_INT, out, counts, places, MPI_INT, both);
  MPI_Allgatherv(in, 1, MPI_INT, out, counts, places, MPI_INT, both);
  // A rank that has no part in it passes what it likes.
  const MPI_Datatype nothing = (MPI_Datatype)0x10;
  if (last) MPI_Scatter(NULL, 0, MPI_INT, in, 1, MPI_INT, 0, both);
  if (rank == 0) MPI_Scatter(out, 1, MPI_INT, NULL, 0, MPI_INT, MPI_ROOT, both);
  if (!last && rank != 0) MPI_Scatter(NULL, 0, nothing, NULL, 0, nothing, MPI_PROC_NULL, both);
  say("others", others);
  MPI_Comm_free(&both);
  MPI_Comm_free(&local);
}

// Arguments that count on the root alone, wrong everywhere else.
static void not_significant(void) {
  const MPI_Datatype nothing = (MPI_Datatype)0x10;
  int mine = rank, all[16] = {0};
  const int* volatile nowhere = (const int*)0x10;
  const int* wrong = nowhere;
  if (rank == 0) {
    int* counts = before_a_wall(size);
    int* places = before_a_wall(size);
    for (int i = 0; i < size; ++i) places[i] = i;
    MPI_Gatherv(&mine, 1, MPI_INT, all, counts, places, MPI_INT, 0, MPI_COMM_WORLD);
    MPI_Scatterv(all, counts, places, MPI_INT, MPI_IN_PLACE, -1, nothing, 0, MPI_COMM_WORLD);
    MPI_Gather(MPI_IN_PLACE, -1, nothing, all, 1, MPI_INT, 0, MPI_COMM_WORLD);
  } else {
    MPI_Gatherv(&mine, 1, MPI_INT, NULL, wrong, wrong, nothing, 0, MPI_COMM_WORLD);
    MPI_Scatterv(NULL, wrong, wrong, nothing, &mine, 1, MPI_INT, 0, MPI_COMM_WORLD);
    MPI_Gather(&mine, 1, MPI_INT, NULL, -1, nothing, 0, MPI_COMM_WORLD);
  }
  MPI_Send(&mine, 0, MPI_INT, MPI_PROC_NULL, 0, MPI_COMM_WORLD);
  MPI_Recv(&mine, 1, MPI_INT, MPI_PROC_NULL, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  say("value", mine);
}

// Errors that the program handles itself.
static void handled_errors(void) {
  int value = 0;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  say("bad count", MPI_Bcast(&value, -1, MPI_INT, 0, MPI_COMM_WORLD) != MPI_SUCCESS);
  say("bad type", MPI_Bcast(&value, 1, MPI_DATATYPE_NULL, 0, MPI_COMM_WORLD) != MPI_SUCCESS);
  say("bad root", MPI_Bcast(&value, 1, MPI_INT, 99, MPI_COMM_WORLD) != MPI_SUCCESS);
  sum(MPI_COMM_WORLD);
}

static const struct {
  const char* name;
  void (*run)(void);
} kCases[] = {{"end_of_main_thread", end_of_main_thread},
              {"no_finalize", no_finalize},
              {"aborts", aborts},
              {"communicators", communicators},
              {"between_groups", between_groups},
              {"not_significant", not_significant},
              {"handled_errors", handled_errors}};

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  for (size_t i = 0; i < sizeof(kCases) / sizeof(*kCases); ++i) {
    if (argc > 1 && strcmp(argv[1], kCases[i].name) == 0) {
      kCases[i].run();
      MPI_Finalize();
      return 0;
    }
  }
  return 2;
}
