// SPDX-License-Identifier: Apache-2.0
// Loads what CUDA_INJECTION64_PATH names, as libcuda does, and ends with the code of its argument.
#include <dlfcn.h>
#include <nvtx3/nvToolsExt.h>

#include <cstdlib>

int main(int argc, char** argv) {
  nvtxRangePushA("work");
  const char* path = std::getenv("CUDA_INJECTION64_PATH");
  void* tool = path == nullptr ? nullptr : dlopen(path, RTLD_NOW);
  auto* start =
      tool == nullptr ? nullptr : reinterpret_cast<int (*)()>(dlsym(tool, "InitializeInjection"));
  if (start == nullptr || start() != 1) return 99;
  nvtxRangePop();
  return argc > 1 ? std::atoi(argv[1]) : 0;
}
