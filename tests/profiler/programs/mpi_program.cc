// SPDX-License-Identifier: Apache-2.0
// A program that communicates in the way its first argument says. No annotation of its own except
// in `annotated`. Knows nothing of Preserve.
#include <mpi.h>
#include <nvtx3/nvToolsExt.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace {

int rank = 0, size = 1;

void busy_us(int64_t us) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(us);
  while (std::chrono::steady_clock::now() < end) {
  }
}

void plain() {
  std::vector<float> buffer(512, 1.0F);
  for (int step = 0; step < 10; ++step) {
    busy_us(200);
    MPI_Allreduce(MPI_IN_PLACE, buffer.data(), 512, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    busy_us(100);
    MPI_Bcast(buffer.data(), 16, MPI_FLOAT, 0, MPI_COMM_WORLD);
  }
}

void every_collective() {
  const auto n = static_cast<size_t>(size);
  std::vector<int> ones(n, 1), places(n), all(n), own(n, rank);
  std::iota(places.begin(), places.end(), 0);
  const MPI_Comm world = MPI_COMM_WORLD;
  MPI_Barrier(world);
  MPI_Reduce(own.data(), all.data(), 1, MPI_INT, MPI_SUM, 0, world);
  MPI_Allgather(own.data(), 1, MPI_INT, all.data(), 1, MPI_INT, world);
  MPI_Allgatherv(own.data(), 1, MPI_INT, all.data(), ones.data(), places.data(), MPI_INT, world);
  MPI_Gather(own.data(), 1, MPI_INT, all.data(), 1, MPI_INT, 0, world);
  MPI_Gatherv(own.data(), 1, MPI_INT, all.data(), ones.data(), places.data(), MPI_INT, 0, world);
  MPI_Scatter(all.data(), 1, MPI_INT, own.data(), 1, MPI_INT, 0, world);
  MPI_Scatterv(all.data(), ones.data(), places.data(), MPI_INT, own.data(), 1, MPI_INT, 0, world);
  MPI_Reduce_scatter(all.data(), own.data(), ones.data(), MPI_INT, MPI_SUM, world);
  MPI_Reduce_scatter_block(all.data(), own.data(), 1, MPI_INT, MPI_SUM, world);
  MPI_Alltoall(own.data(), 1, MPI_INT, all.data(), 1, MPI_INT, world);
  MPI_Alltoallv(own.data(), ones.data(), places.data(), MPI_INT, all.data(), ones.data(),
                places.data(), MPI_INT, world);
  MPI_Scan(own.data(), all.data(), 1, MPI_INT, MPI_SUM, world);
  MPI_Exscan(own.data(), all.data(), 1, MPI_INT, MPI_SUM, world);
}

// With MPI_IN_PLACE the type next to it means nothing and may be MPI_DATATYPE_NULL.
void in_place() {
  const auto n = static_cast<size_t>(size);
  std::vector<int> ones(n, 1), places(n), all(n, 1);
  std::iota(places.begin(), places.end(), 0);
  const MPI_Comm world = MPI_COMM_WORLD;
  const MPI_Datatype none = MPI_DATATYPE_NULL;
  int own = rank;
  MPI_Allgather(MPI_IN_PLACE, 0, none, all.data(), 1, MPI_INT, world);
  MPI_Allgatherv(MPI_IN_PLACE, 0, none, all.data(), ones.data(), places.data(), MPI_INT, world);
  if (rank == 0) {
    MPI_Gather(MPI_IN_PLACE, 0, none, all.data(), 1, MPI_INT, 0, world);
    MPI_Scatter(all.data(), 1, MPI_INT, MPI_IN_PLACE, 0, none, 0, world);
  } else {
    MPI_Gather(&own, 1, MPI_INT, nullptr, 0, none, 0, world);
    MPI_Scatter(nullptr, 0, none, &own, 1, MPI_INT, 0, world);
  }
  MPI_Alltoall(MPI_IN_PLACE, 0, none, all.data(), 1, MPI_INT, world);
  MPI_Alltoallv(MPI_IN_PLACE, nullptr, nullptr, none, all.data(), ones.data(), places.data(),
                MPI_INT, world);
}

// More requests are freed than are followed at a time; then some that are waited for.
void freed() {
  constexpr int kRounds = 200, kAtOnce = 100, kWaited = 10;
  std::vector<int> in(kAtOnce), out(kAtOnce, 1);
  const int other = size - 1 - rank;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kAtOnce; ++i) {
      MPI_Request request{};
      MPI_Irecv(&in[static_cast<size_t>(i)], 1, MPI_INT, other, 1, MPI_COMM_WORLD, &request);
      MPI_Request_free(&request);
    }
    for (int i = 0; i < kAtOnce; ++i) {
      MPI_Send(&out[static_cast<size_t>(i)], 1, MPI_INT, other, 1, MPI_COMM_WORLD);
    }
    MPI_Barrier(MPI_COMM_WORLD);
  }
  MPI_Request never{};
  MPI_Irecv(in.data(), 1, MPI_INT, other, 99, MPI_COMM_WORLD, &never);
  MPI_Cancel(&never);
  MPI_Wait(&never, MPI_STATUS_IGNORE);
  for (int i = 0; i < kWaited; ++i) {
    MPI_Request request{};
    MPI_Irecv(in.data(), 1, MPI_INT, other, 2, MPI_COMM_WORLD, &request);
    MPI_Send(out.data(), 1, MPI_INT, other, 2, MPI_COMM_WORLD);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
  }
}

void non_blocking() {
  std::vector<double> in(1000, 1), out(1000);
  for (int step = 0; step < 5; ++step) {
    MPI_Request request{};
    MPI_Iallreduce(in.data(), out.data(), 1000, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD, &request);
    int done = 0;
    while (done == 0) {
      busy_us(10);
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    }
    MPI_Request pair[2];
    const int other = size - 1 - rank;
    MPI_Irecv(out.data(), 100, MPI_DOUBLE, other, 7, MPI_COMM_WORLD, &pair[0]);
    MPI_Isend(in.data(), 100, MPI_DOUBLE, other, 7, MPI_COMM_WORLD, &pair[1]);
    MPI_Waitall(2, pair, MPI_STATUSES_IGNORE);
  }
}

void communicators() {
  int value = 1, sum = 0;
  MPI_Comm first{}, second{}, alone{};
  MPI_Comm_dup(MPI_COMM_WORLD, &first);
  MPI_Comm_dup(MPI_COMM_WORLD, &second);
  MPI_Comm_split(MPI_COMM_WORLD, rank, 0, &alone);
  // Ranks use the two duplicates for the first time in different order.
  MPI_Request requests[2];
  const MPI_Comm order[2] = {rank == 0 ? first : second, rank == 0 ? second : first};
  int sums[2];
  for (int i = 0; i < 2; ++i) {
    MPI_Iallreduce(&value, &sums[i], 1, MPI_INT, MPI_SUM, order[i], &requests[i]);
  }
  MPI_Waitall(2, requests, MPI_STATUSES_IGNORE);
  MPI_Bcast(&value, 1, MPI_INT, 0, first);
  MPI_Barrier(second);
  MPI_Allreduce(&value, &sum, 1, MPI_INT, MPI_SUM, alone);
  MPI_Comm_free(&first);
  MPI_Comm_free(&second);
  MPI_Comm_free(&alone);
}

void annotated() {
  float value = 1;
  for (int step = 0; step < 4; ++step) {
    nvtxRangePushA("decode_step");
    nvtxRangePushA("compute");
    busy_us(100);
    nvtxRangePop();
    nvtxRangePushA("attn.allreduce");
    MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    nvtxRangePop();
    nvtxRangePop();
  }
}

// Two sides, {0, 1} and {2}. Arrays are exactly as long as MPI asks, and what it does not look at
// is garbage.
void intercommunicator() {
  const bool alone = rank == size - 1;
  MPI_Comm side{}, both{};
  MPI_Comm_split(MPI_COMM_WORLD, alone ? 1 : 0, rank, &side);
  MPI_Intercomm_create(side, 0, MPI_COMM_WORLD, alone ? 0 : size - 1, 9, &both);
  int partners = 0;
  MPI_Comm_remote_size(both, &partners);
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  auto* pages = static_cast<char*>(
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(pages + page, page, PROT_NONE);
  int* counts = reinterpret_cast<int*>(pages + page) - partners;
  int places[8], in[16] = {}, out[16] = {};
  for (int i = 0; i < 8; ++i) places[i] = 2 * i;
  for (int i = 0; i < partners; ++i) counts[i] = 2;
  MPI_Alltoall(in, 2, MPI_INT, out, 2, MPI_INT, both);
  MPI_Alltoallv(in, counts, places, MPI_INT, out, counts, places, MPI_INT, both);
  const auto garbage = (MPI_Datatype)uintptr_t{0x10};  // a pointer or a number
  if (alone) {
    MPI_Scatter(nullptr, 0, garbage, out, 4, MPI_INT, 0, both);
    MPI_Bcast(out, 4, MPI_INT, 0, both);
  } else if (rank == 0) {
    MPI_Scatter(in, 4, MPI_INT, nullptr, 0, garbage, MPI_ROOT, both);
    MPI_Bcast(in, 4, MPI_INT, MPI_ROOT, both);
  } else {
    MPI_Scatter(nullptr, 0, garbage, nullptr, 0, garbage, MPI_PROC_NULL, both);
    MPI_Bcast(nullptr, 0, MPI_INT, MPI_PROC_NULL, both);
  }
  MPI_Comm_free(&both);
  MPI_Comm_free(&side);
}

// Communicators that become known to the two ranks in different order, or to one of them more than
// to the other.
void numbers() {
  MPI_Comm copies[2], some{}, inner{}, later{};
  int value = 1, sum = 0;
  for (MPI_Comm& copy : copies) {
    MPI_Request request{};
    MPI_Comm_idup(MPI_COMM_WORLD, &copy, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
  }
  if (rank == 0) {
    MPI_Request sent[2];
    MPI_Isend(&value, 1, MPI_INT, 1, 0, copies[0], &sent[0]);
    MPI_Isend(&value, 1, MPI_INT, 1, 0, copies[1], &sent[1]);
    MPI_Waitall(2, sent, MPI_STATUSES_IGNORE);
  } else {
    MPI_Recv(&sum, 1, MPI_INT, 0, 0, copies[1], MPI_STATUS_IGNORE);
    MPI_Recv(&sum, 1, MPI_INT, 0, 0, copies[0], MPI_STATUS_IGNORE);
  }
  MPI_Comm_split(MPI_COMM_WORLD, rank == 0 ? 0 : MPI_UNDEFINED, 0, &some);
  if (rank == 0) MPI_Comm_dup(some, &inner);
  MPI_Comm_split(MPI_COMM_WORLD, 0, 0, &later);
  double real = 0, total = 0;
  MPI_Allreduce(&real, &total, 1, MPI_DOUBLE, MPI_SUM, copies[0]);
  MPI_Allreduce(&value, &sum, 1, MPI_INT, MPI_SUM, copies[1]);
  MPI_Barrier(later);
}

// Calls that are not recorded one by one.
void undescribed() {
  int in = 0, out = 1;
  const int other = size - 1 - rank;
  MPI_Request pair[2];
  MPI_Send_init(&out, 1, MPI_INT, other, 1, MPI_COMM_WORLD, &pair[0]);
  MPI_Recv_init(&in, 1, MPI_INT, other, 1, MPI_COMM_WORLD, &pair[1]);
  for (int i = 0; i < 3; ++i) {
    MPI_Startall(2, pair);
    MPI_Waitall(2, pair, MPI_STATUSES_IGNORE);
  }
  MPI_Request_free(&pair[0]);
  MPI_Request_free(&pair[1]);
  const int sizes[1] = {size}, periods[1] = {1};
  MPI_Comm ring{};
  int near[2];
  MPI_Cart_create(MPI_COMM_WORLD, 1, sizes, periods, 0, &ring);
  MPI_Neighbor_allgather(&out, 1, MPI_INT, near, 1, MPI_INT, ring);
  MPI_Comm_free(&ring);
}

void five_allreduces() {
  int value = 1, sum = 0;
  for (int i = 0; i < 5; ++i) MPI_Allreduce(&value, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
}

// Error handlers that leave the failed call in the three ways there are; what is called afterwards,
// from deeper functions, is called by the program.
jmp_buf after_error;
void come_back(MPI_Comm* comm, int*, ...) {
  MPI_Barrier(*comm);
}
void go_on(MPI_Comm*, int*, ...) {}
void jump(MPI_Comm*, int*, ...) {
  longjmp(after_error, 1);
}
void raise_code(MPI_Comm*, int* code, ...) {
  throw *code;
}
void fail() {
  int value = 0;
  MPI_Bcast(&value, -1, MPI_INT, 0, MPI_COMM_WORLD);
}
void handle_errors_by(MPI_Comm_errhandler_function* function) {
  MPI_Errhandler handler{};
  MPI_Comm_create_errhandler(function, &handler);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, handler);
  MPI_Errhandler_free(&handler);
}
// A reduction that goes on after an error of its own.
void add_after_an_error(void* in, void* in_out, int* count, MPI_Datatype*) {
  fail();
  for (int i = 0; i < *count; ++i) static_cast<int*>(in_out)[i] += static_cast<int*>(in)[i];
}
void errors() {
  handle_errors_by(go_on);
  MPI_Op add{};
  MPI_Op_create(add_after_an_error, 1, &add);
  int value = 1, sum = 0;
  MPI_Allreduce(&value, &sum, 1, MPI_INT, add, MPI_COMM_WORLD);
  MPI_Op_free(&add);
  if (sum != size) MPI_Abort(MPI_COMM_WORLD, 3);
  fail();
  MPI_Request none = MPI_REQUEST_NULL;
  MPI_Waitall(-1, &none, MPI_STATUSES_IGNORE);
  handle_errors_by(come_back);
  fail();
  five_allreduces();
  handle_errors_by(jump);
  if (setjmp(after_error) == 0) fail();
  five_allreduces();
  if (setjmp(after_error) == 0) {
    MPI_Waitall(-1, &none, MPI_STATUSES_IGNORE);
  }
  five_allreduces();
  handle_errors_by(raise_code);
  try {
    fail();
  } catch (int code) {
    if (code != MPI_SUCCESS) MPI_Barrier(MPI_COMM_WORLD);
  }
  five_allreduces();
}

// Most of the program's memory on huge pages, where the machine gives them.
void huge_pages() {
  constexpr size_t kBytes = size_t{64} << 20, kHugePage = size_t{2} << 20;
  void* memory =
      mmap(nullptr, kBytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  const size_t at = reinterpret_cast<size_t>(memory);
  char* begin = static_cast<char*>(memory) + (kHugePage - at % kHugePage) % kHugePage;
  madvise(begin, kBytes, MADV_HUGEPAGE);
  std::memset(begin, 1, kBytes);
  five_allreduces();
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const std::map<std::string, void (*)()> modes{{"plain", plain},
                                                {"every", every_collective},
                                                {"inplace", in_place},
                                                {"freed", freed},
                                                {"nonblocking", non_blocking},
                                                {"communicators", communicators},
                                                {"annotated", annotated},
                                                {"intercommunicator", intercommunicator},
                                                {"numbers", numbers},
                                                {"undescribed", undescribed},
                                                {"five", five_allreduces},
                                                {"huge", huge_pages},
                                                {"errors", errors}};
  const auto mode = modes.find(argc > 1 ? argv[1] : "");
  if (mode != modes.end()) mode->second();
  MPI_Finalize();
  return 0;
}
