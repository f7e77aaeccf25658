// SPDX-License-Identifier: Apache-2.0
// Plays a CUDA program on the fake CUPTI: loads what CUDA_INJECTION64_PATH names, as libcuda does,
// then the scenario of the first argument. Sees no tool and changes nothing when the variable is
// not set.
#include <dlfcn.h>
#include <fcntl.h>
#include <nvtx3/nvToolsExt.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/profiler/collector/cuda/fake_cupti.h"
#include "tests/profiler/collector/cuda/kill_log.h"
#include "tests/profiler/programs/until_written.h"

namespace {

void initialize_cuda() {
  const char* path = std::getenv("CUDA_INJECTION64_PATH");
  void* tool = path == nullptr ? nullptr : dlopen(path, RTLD_NOW);
  auto* start =
      tool == nullptr ? nullptr : reinterpret_cast<int (*)()>(dlsym(tool, "InitializeInjection"));
  if (start != nullptr) start();
}

void launch(const char* name, uint64_t pointer = 0) {
  int number = 5;
  void* parameters[] = {&pointer, &number};
  fake_launch(name, 0x1000 + static_cast<uint64_t>(name[0]), parameters);
}

void run_steps(int steps) {
  for (int step = 0; step < steps; ++step) {
    nvtxRangePushA("decode_step");
    launch("gemm_kernel", 0x70000000);
    launch("ncclDevKernel_AllReduce_Sum_bf16_RING_LL");
    nvtxRangePop();
  }
}

void capture_graph() {
  fake_capture(1);
  nvtxRangePushA("layers.0.mlp");
  launch("gemm_kernel", 0x70000000);
  nvtxRangePop();
  nvtxRangePushA("layers.0.allreduce");
  launch("ncclDevKernel_AllReduce_Sum_bf16_RING_LL");
  nvtxRangePop();
  fake_capture(0);
  fake_instantiate();
}

// One thread, two GPUs: while one computes, the other communicates, and the reverse.
void run_on_two_gpus(int steps) {
  fake_kernel_ns = 100'000;
  const char* const all_reduce = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL";
  for (const uint64_t weight : {0x7000000000, 0x7100000000}) fake_allocate(weight, 64 << 20);
  for (int step = 0; step < steps; ++step) {
    nvtxRangePushA("decode_step");
    for (const bool first : {true, false}) {
      for (const uint32_t device : {0u, 1u}) {
        fake_device = device;
        const bool computes = first == (device == 0);
        const uint64_t weight = device == 0 ? 0x7000000000 : 0x7100000000;
        launch(computes ? "gemm_kernel" : all_reduce, computes ? weight : 0);
      }
      usleep(200);
    }
    nvtxRangePop();
  }
}

void replay(int steps) {
  for (int step = 0; step < steps; ++step) {
    nvtxRangePushA("decode_step");
    fake_graph_launch();
    nvtxRangePop();
  }
}

int forked() {
  run_steps(2);
  const pid_t child = fork();
  if (child == 0) {
    run_steps(2);  // not recorded: CUDA does not survive a fork
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  run_steps(1);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

// Until what was launched before is in the spool: CUPTI hands it out with its next flush, the
// writer takes it after this thread's marks, and has written it when he writes a later mark.
void until_launches_are_written() {
  const uint64_t before = fake_flushes();
  while (fake_flushes() == before) usleep(1000);
  for (const char* mark : {"flushed", "written"}) {
    nvtxMarkA(mark);
    preserve::test::until_written(mark);
  }
}

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// Launches, eagerly or by replays of a graph, until it is killed at a random moment. Into `file`,
// which outlives it, it writes how much had been launched when it saw that there had been a flush.
int randomly_killed(unsigned seed, const char* file) {
  std::mt19937 random(seed);
  const int fd = open(file, O_RDWR | O_CREAT, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(KillLog)) != 0) return 2;
  void* memory = mmap(nullptr, sizeof(KillLog), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return 2;
  auto* log = static_cast<KillLog*>(memory);
  const bool replays = random() % 2 == 0;
  const auto lives_us = static_cast<useconds_t>(random() % 300'000);
  const auto pause_us = static_cast<useconds_t>(random() % 300);
  if (replays) capture_graph();
  preserve::test::until_written("started");  // from then on it can be read
  std::thread([lives_us] {
    usleep(lives_us);
    raise(SIGKILL);
  }).detach();
  uint64_t flushes = 0;
  for (uint64_t kernels = 0;; kernels += 2) {
    if (const uint64_t now = fake_flushes(); now > flushes && log->looks < KillLog::kLooks) {
      flushes = now;
      log->seen[log->looks] = {now_ns(), kernels};
      ++log->looks;
    }
    log->launched = kernels + 2;
    if (replays) {
      replay(1);
    } else {
      run_steps(1);
    }
    if (kernels % 20 == 0) usleep(pause_us);
  }
}

void threads() {
  std::vector<std::thread> all;
  all.reserve(4);
  for (int i = 0; i < 4; ++i) all.emplace_back([] { run_steps(500); });
  for (std::thread& thread : all) thread.join();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string scenario = argc > 1 ? argv[1] : "";
  const int count = argc > 2 ? std::atoi(argv[2]) : 3;
  nvtxMarkA("started");
  initialize_cuda();
  if (scenario != "unready") fake_driver_ready();
  fake_allocate(0x70000000, 4096);
  if (scenario == "steps" || scenario == "counted" || scenario == "unready") {
    run_steps(count);
  } else if (scenario == "graph") {
    capture_graph();
    replay(count);
  } else if (scenario == "two_gpus") {
    run_on_two_gpus(count);
  } else if (scenario == "profiler") {
    capture_graph();
    replay(5);
    fake_profiler(1);
    replay(count);
    fake_profiler(0);
    replay(5);
  } else if (scenario == "fork") {
    return forked();
  } else if (scenario == "threads") {
    threads();
  } else if (scenario == "warning") {
    run_steps(1);
    fake_warning("no room for device buffers");
    fake_warning("no room for device buffers");
  } else if (scenario == "incomplete") {
    run_steps(1);
    fake_incomplete_record();
  } else if (scenario == "fatal") {
    run_steps(1);
    fake_fatal("the device fell off");
    run_steps(1);
  } else if (scenario == "exit") {
    run_steps(count);
    std::exit(7);
  } else if (scenario == "forever") {  // until a signal
    std::puts("running");
    std::fflush(stdout);
    while (true) {
      run_steps(1);
      usleep(500);
    }
  } else if (scenario == "terminate") {
    run_steps(count);
    raise(SIGTERM);
    sleep(10);
  } else if (scenario == "started") {
    run_steps(2);
    const nvtxRangeId_t request = nvtxRangeStartA("request");
    run_steps(count);
    std::thread([request] { nvtxRangeEnd(request); }).join();
    run_steps(2);
  } else if (scenario == "randomly_killed" && argc > 3) {
    return randomly_killed(static_cast<unsigned>(count), argv[3]);
  } else if (scenario == "kill") {
    run_steps(count);
    until_launches_are_written();
    raise(SIGKILL);
  } else {
    std::fprintf(stderr, "unknown scenario\n");
    return 2;
  }
  return 0;
}
