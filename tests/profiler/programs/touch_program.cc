// SPDX-License-Identifier: Apache-2.0
// Programs whose memory is followed by page protection: each must end as without that. Prints what
// it computed; a wrong result ends it with 1.
#include <mpi.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

namespace {

constexpr size_t kBytes = 1 << 20;

void expect(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::_Exit(1);
}

double synchronise(double value) {
  double sum = 0;
  MPI_Allreduce(&value, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  return sum;
}

uint64_t sum_of(const std::vector<uint8_t>& bytes) {
  uint64_t sum = 0;
  for (const uint8_t byte : bytes) sum = sum * 31 + byte;
  return sum;
}

std::vector<uint8_t> filled(size_t bytes, int seed) {
  std::vector<uint8_t> memory(bytes);
  for (size_t i = 0; i < bytes; ++i) memory[i] = static_cast<uint8_t>(i * 7 + i / 251 + seed);
  return memory;
}

// Two matrices that are read in turn and a vector that is written.
void steps() {
  const std::vector<uint8_t> first = filled(kBytes, 1), second = filled(2 * kBytes, 2);
  std::vector<uint8_t> out(kBytes / 2);
  double result = 0;
  for (int step = 0; step < 60; ++step) {
    result += synchronise(static_cast<double>(sum_of(first) % 1000));
    result += synchronise(static_cast<double>(sum_of(second) % 1000));
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<uint8_t>(i + step);
  }
  std::printf("result %.0f %llu\n", result, static_cast<unsigned long long>(sum_of(out)));
}

void kernel() {
  const std::vector<uint8_t> data = filled(kBytes, 3);
  std::vector<uint8_t> back(kBytes);
  char name[] = "/tmp/touch_program.XXXXXX";
  const int file = mkstemp(name);
  for (int round = 0; round < 20; ++round) {
    synchronise(1);
    expect(pwrite(file, data.data(), kBytes, 0) == kBytes, "pwrite");
    synchronise(1);
    expect(pread(file, back.data(), kBytes, 0) == kBytes && back == data, "pread");
    std::fill(back.begin(), back.end(), 0);
    synchronise(1);
    const iovec parts[] = {{back.data(), kBytes / 2}, {back.data() + kBytes / 2, kBytes / 2}};
    expect(lseek(file, 0, SEEK_SET) == 0 && readv(file, parts, 2) == kBytes && back == data,
           "readv");
    synchronise(1);
    std::FILE* stream = std::fopen(name, "r+b");
    std::fill(back.begin(), back.end(), 0);
    synchronise(1);
    expect(std::fread(back.data(), 1, kBytes, stream) == kBytes && back == data, "fread");
    synchronise(1);
    std::rewind(stream);
    expect(std::fwrite(data.data(), 1, kBytes, stream) == kBytes, "fwrite");
    std::fclose(stream);
    std::ofstream out(name, std::ios::binary);
    synchronise(1);
    out.write(reinterpret_cast<const char*>(data.data()), kBytes);
    expect(out.flush().good(), "ofstream");
  }
  close(file);
  unlink(name);
  std::puts("kernel good");
}

volatile sig_atomic_t own_faults = 0;
sigjmp_buf back_to;
void on_own_fault(int, siginfo_t*, void*) {
  own_faults = own_faults + 1;
  siglongjmp(back_to, 1);
}

void set_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_own_fault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
}

void* read_with_all_signals_blocked(void* argument) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  const auto* data = static_cast<const std::vector<uint8_t>*>(argument);
  return reinterpret_cast<void*>(sum_of(*data));
}

void signals() {
  static std::vector<uint8_t> data = filled(kBytes, 4);  // static: not lost by a jump
  static const uint64_t sum = sum_of(data);
  void* trap = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int round = 0; round < 20; ++round) {
    if (round == 0 || round == 10) set_handler();  // before ours and after
    synchronise(1);
    struct sigaction now {};
    sigaction(SIGSEGV, nullptr, &now);
    expect(now.sa_sigaction == on_own_fault, "the program sees its own handler");
    if (sigsetjmp(back_to, 1) == 0) {
      *static_cast<volatile char*>(trap) = 1;
      expect(false, "no fault");
    }
    expect(own_faults == round + 1, "its handler sees its faults alone");
    synchronise(1);
    pthread_t thread;
    void* found = nullptr;
    pthread_create(&thread, nullptr, read_with_all_signals_blocked, &data);
    pthread_join(thread, &found);
    expect(reinterpret_cast<uint64_t>(found) == sum, "a thread that blocks all signals");
  }
  std::puts("signals good");
}

void release() {
  for (int round = 0; round < 20; ++round) {
    auto* block = static_cast<uint8_t*>(std::malloc(kBytes));
    std::memset(block, round, kBytes);
    synchronise(1);
    block = static_cast<uint8_t*>(std::realloc(block, 3 * kBytes));
    expect(block[0] == round && block[kBytes - 1] == round, "realloc");
    synchronise(1);
    void* pages = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::memset(pages, round, kBytes);
    synchronise(1);
    expect(mprotect(pages, kBytes, PROT_READ) == 0, "mprotect");
    expect(static_cast<uint8_t*>(pages)[kBytes / 2] == round, "after mprotect");
    synchronise(1);
    munmap(pages, kBytes);
    std::free(block);
    block = static_cast<uint8_t*>(std::malloc(kBytes));
    std::memset(block, 9, kBytes);
    int ends[2];
    expect(pipe(ends) == 0, "pipe");
    synchronise(1);
    const pid_t child = fork();
    if (child == 0) _exit(write(ends[1], block, 4096) == 4096 && block[kBytes - 1] == 9 ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child");
    close(ends[0]);
    close(ends[1]);
    std::free(block);
  }
  std::puts("release good");
}

void peers() {
  int rank = 0, ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  std::vector<uint8_t> out = filled(4 * kBytes, rank), in(4 * kBytes);
  const int to = (rank + 1) % ranks, from = (rank + ranks - 1) % ranks;
  const auto count = static_cast<int>(out.size());
  for (int round = 0; round < 20; ++round) {
    MPI_Request requests[2];
    MPI_Irecv(in.data(), count, MPI_BYTE, from, 0, MPI_COMM_WORLD, &requests[0]);
    MPI_Isend(out.data(), count, MPI_BYTE, to, 0, MPI_COMM_WORLD, &requests[1]);
    const uint64_t sum = sum_of(out);  // while the peer may read it
    expect(sum == sum_of(filled(out.size(), rank)), "own data");
    MPI_Waitall(2, requests, MPI_STATUSES_IGNORE);
    expect(in == filled(in.size(), from), "received data");
    MPI_Bcast(in.data(), count, MPI_BYTE, 0, MPI_COMM_WORLD);
    expect(in == filled(in.size(), ranks - 1), "broadcast data");
  }
  if (rank == 0) std::puts("peers good");
}

void threads() {
  const std::vector<uint8_t> data = filled(8 * kBytes, 5);
  const uint64_t sum = sum_of(data);
  for (int round = 0; round < 30; ++round) {
    synchronise(1);
    std::vector<std::thread> team;
    for (int i = 0; i < 3; ++i) {
      team.emplace_back([&] { expect(sum_of(data) == sum, "a thread's reads"); });
    }
    for (std::thread& thread : team) thread.join();
  }
  std::puts("threads good");
}

void abort_job() {
  for (int round = 0; round < 10; ++round) synchronise(1);
  std::puts("before the abort");
  std::fflush(nullptr);
  MPI_Abort(MPI_COMM_WORLD, 5);
}

void crash() {
  const std::vector<uint8_t> data = filled(kBytes, 6);
  synchronise(static_cast<double>(data[0]));
  void* constant = mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  synchronise(static_cast<double>(*static_cast<volatile char*>(constant)));
  std::fflush(nullptr);
  *static_cast<volatile char*>(constant) = 1;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  struct Part {
    const char* name;
    void (*run)();
  };
  for (const Part& part : {Part{"steps", steps}, Part{"kernel", kernel}, Part{"signals", signals},
                           Part{"release", release}, Part{"peers", peers}, Part{"threads", threads},
                           Part{"abort", abort_job}, Part{"crash", crash}}) {
    if (argc == 2 && std::strcmp(argv[1], part.name) == 0) part.run();
  }
  MPI_Finalize();
  return 0;
}
