// SPDX-License-Identifier: Apache-2.0
// A program with a CUDA graph as a process of its own, with an emulated libcuda.so.1 and libcupti
// in place of the real ones: this library is both. What it prints does not depend on any tool.
//   STEPS            launches, each waited for
//   keep|give-up     the template
//   fork|named|-     forks half-way; names its weights by NVTX
#include <dlfcn.h>
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtMem.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

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
  nvtxDomainHandle_t domain = nvtxDomainCreateA("loop");
  const nvtxMemVirtualRangeDesc_t all{3 * kLayers * kWeightBytes,
                                      reinterpret_cast<const void*>(program.weight(0))};
  nvtxMemHeapDesc_t heap{};
  heap.extCompatID = NVTX_EXT_COMPATID_MEM;
  heap.structSize = sizeof heap;
  heap.usage = NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR;
  heap.type = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
  heap.typeSpecificDescSize = sizeof all;
  heap.typeSpecificDesc = &all;
  heap.messageType = NVTX_MESSAGE_TYPE_ASCII;
  heap.message.ascii = "weights";
  const nvtxMemVirtualRangeDesc_t weight{kWeightBytes,
                                         reinterpret_cast<const void*>(program.weight(3))};
  nvtxMemRegionsRegisterBatch_t batch{};
  batch.extCompatID = NVTX_EXT_COMPATID_MEM;
  batch.structSize = sizeof batch;
  batch.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
  batch.heap = nvtxMemHeapRegister(domain, &heap);
  batch.regionCount = 1;
  batch.regionDescElementSize = sizeof weight;
  batch.regionDescElements = &weight;
  nvtxMemRegionsRegister(domain, &batch);
  nvtxMemRegionNameDesc_t name{};
  name.regionRefType = NVTX_MEM_REGION_REF_TYPE_POINTER;
  name.region.pointer = reinterpret_cast<const void*>(program.weight(3));
  name.nameType = NVTX_MESSAGE_TYPE_ASCII;
  name.name.ascii = "layers.1.norm";
  nvtxMemRegionsNameBatch_t names{};
  names.extCompatID = NVTX_EXT_COMPATID_MEM;
  names.structSize = sizeof names;
  names.regionCount = 1;
  names.regionElementSize = sizeof name;
  names.regionElements = &name;
  nvtxMemRegionsName(domain, &names);
}

// A child has no CUDA: whatever is announced there, no call of the driver may follow.
bool child_is_left_alone(CUgraphExec executable) {
  const pid_t child = fork();
  if (child == 0) {
    emulated::driver_calls = 0;
    for (int i = 0; i < 20; ++i) {
      cuGraphLaunch_params launch{executable, nullptr};
      call("cuGraphLaunch", launch, [] { return CUDA_SUCCESS; });
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
  cuMemAlloc_v2_params allocate{};
  call("cuMemAlloc_v2", allocate, [] { return CUDA_SUCCESS; });
  Program program(decode_step(kLayers), kWeightBytes);
  if (extra == "named") name_weights(program);
  CUgraphExec executable = nullptr;
  cuGraphInstantiateWithFlags_params instantiate{&executable, program.graph(), 0};
  if (call("cuGraphInstantiateWithFlags", instantiate, [&] {
        return cuGraphInstantiateWithFlags(&executable, program.graph(), 0);
      }) != CUDA_SUCCESS) {
    return 1;
  }
  cuGraphDestroy_params destroy{program.graph()};
  if (!keeps) call("cuGraphDestroy", destroy, [] { return CUDA_SUCCESS; });
  uint64_t sum = 0;
  size_t requests = 0;
  for (int step = 0; step < steps; ++step) {
    if (extra == "fork" && step == steps / 2 && !child_is_left_alone(executable)) return 3;
    cuGraphLaunch_params launch{executable, nullptr};
    call("cuGraphLaunch", launch, [&] { return cuGraphLaunch(executable, nullptr); });
    emulated::drain();
    for (const uint64_t value : program.left()) sum = (sum ^ value) * 0x100000001b3;
    requests += emulated::requests().size();
    emulated::requests().clear();
  }
  cuGraphExecDestroy_params end{executable};
  call("cuGraphExecDestroy", end, [&] { return cuGraphExecDestroy(executable); });
  std::printf("%016llx\n", static_cast<unsigned long long>(sum));
  std::fprintf(stderr, "%zu requests\n", requests);
  return 0;
}

}  // namespace preserve::test
