// SPDX-License-Identifier: Apache-2.0
// Calls collectives of the libnccl given as first argument on a null communicator: they fail at
// once, on any machine, but NCCL announces them through NVTX first.
#include <dlfcn.h>

#include <cstdio>

int main(int argc, char** argv) {
  void* nccl = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (nccl == nullptr) {
    std::fprintf(stderr, "no libnccl: %s\n", argc > 1 ? dlerror() : "give its path");
    return 77;
  }
  // ncclResult_t f(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t,
  // cudaStream_t)
  using AllReduce = int (*)(const void*, void*, size_t, int, int, void*, void*);
  using AllGather = int (*)(const void*, void*, size_t, int, void*, void*);
  auto all_reduce = reinterpret_cast<AllReduce>(dlsym(nccl, "ncclAllReduce"));
  auto all_gather = reinterpret_cast<AllGather>(dlsym(nccl, "ncclAllGather"));
  if (all_reduce == nullptr || all_gather == nullptr) return 77;
  constexpr int kBfloat16 = 9, kFloat32 = 7, kSum = 0;  // nccl.h
  for (int i = 0; i < 3; ++i) all_reduce(nullptr, nullptr, 1024, kBfloat16, kSum, nullptr, nullptr);
  all_gather(nullptr, nullptr, 512, kFloat32, nullptr, nullptr);
  return 0;
}
