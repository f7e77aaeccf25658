// SPDX-License-Identifier: Apache-2.0
// A program with a CUDA graph as a process of its own, with an emulated libcuda.so.1 and libcupti
// in place of the real ones: this library is both. What it prints does not depend on any tool.
//   STEPS            launches, each waited for
//   keep|give-up     the template
//   fork|named|-     forks half-way; names its weights by NVTX
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "examples/tp_decoder/annotate.h"
#include "tests/apply/library/cuda/cupti.h"
#include "tests/apply/library/cuda/program.h"
#include "tests/replay/cuda/emulated_gpu.h"

// The older name, which drivers have too.
#undef cuEventElapsedTime
extern "C" CUresult cuEventElapsedTime(float* ms, CUevent begin, CUevent end) {
  return cuEventElapsedTime_v2(ms, begin, end);
}

namespace preserve::test {
namespace {

constexpr size_t kLayers = 3, kWeightBytes = 4096;

// As libcuda does when it is initialised.
void load_tool() {
  const char* path = std::getenv("CUDA_INJECTION64_PATH");
  void* tool = path == nullptr ? nullptr : dlopen(path, RTLD_NOW);
  if (tool == nullptr) return;
  reinterpret_cast<int (*)()>(dlsym(tool, "InitializeInjection"))();
}

void name_weights(const Program& program) {
  const auto at = [&](size_t kernel) { return reinterpret_cast<void*>(program.weight(kernel)); };
  nvtxMemHeap_v1* heap = tp_decoder::register_heap("weights", at(0), 3 * kLayers * kWeightBytes);
  const tp_decoder::Region norm{"layers.1.norm", at(3), kWeightBytes};
  tp_decoder::register_regions(heap, {&norm, 1});
}

// A child has no CUDA: whatever is announced there, no call of the driver may follow.
bool child_is_left_alone(CUgraphExec executable) {
  const pid_t child = fork();
  if (child == 0) {
    emulated::driver_calls = 0;
    for (int i = 0; i < 20; ++i) {
      call("cuGraphLaunch", cuGraphLaunch_params{executable, nullptr});
    }
    _exit(emulated::driver_calls == 0 ? 0 : 1);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace

__attribute__((visibility("default"))) int run_graph_process(int argc, char** argv) {
  if (argc != 4) return 2;
  const int steps = std::atoi(argv[1]);
  const bool keeps = std::string_view(argv[2]) == "keep";
  const std::string_view extra = argv[3];
  load_tool();
  (void)emulated_driver();
  call("cuMemAlloc_v2", cuMemAlloc_v2_params{});
  Program program(decode_step(kLayers), kWeightBytes);
  if (extra == "named") name_weights(program);
  CUgraphExec executable = nullptr;
  cuGraphInstantiateWithFlags_params instantiate{&executable, program.graph(), 0};
  if (call("cuGraphInstantiateWithFlags", instantiate, [&] {
        return cuGraphInstantiateWithFlags(&executable, program.graph(), 0);
      }) != CUDA_SUCCESS) {
    return 1;
  }
  if (!keeps) call("cuGraphDestroy", cuGraphDestroy_params{program.graph()});
  uint64_t sum = 0;
  size_t requests = 0;
  for (int step = 0; step < steps; ++step) {
    if (extra == "fork" && step == steps / 2 && !child_is_left_alone(executable)) return 3;
    call("cuGraphLaunch", cuGraphLaunch_params{executable, nullptr},
         [&] { return cuGraphLaunch(executable, nullptr); });
    emulated::drain();
    for (const uint64_t value : program.left()) sum = (sum ^ value) * 0x100000001b3;
    requests += emulated::requests().size();
    emulated::requests().clear();
  }
  call("cuGraphExecDestroy", cuGraphExecDestroy_params{executable},
       [&] { return cuGraphExecDestroy(executable); });
  std::printf("%016llx\n", static_cast<unsigned long long>(sum));
  std::fprintf(stderr, "%zu requests\n", requests);
  return 0;
}

}  // namespace preserve::test
