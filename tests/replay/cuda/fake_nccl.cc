// SPDX-License-Identifier: Apache-2.0
// A libnccl.so.2 for the emulated GPU: an allreduce of one rank copies its message.
#include <dlfcn.h>
#include <nccl.h>

#include <cstring>
#include <deque>

#include "tests/support/stub.h"

struct ncclComm {
  int ranks;
};

namespace {
struct Copy {
  const void* from;
  void* to;
  size_t bytes;
};
ncclResult_t enqueue(const void* from, void* to, size_t bytes, cudaStream_t stream) {
  using Enqueue = void (*)(cudaStream_t, void (*)(void*), void*);
  auto enqueue_to = reinterpret_cast<Enqueue>(::dlsym(RTLD_DEFAULT, "emulated_cuda_enqueue"));
  if (enqueue_to == nullptr) return ncclSystemError;
  const auto copy = [](void* data) {
    const auto* one = static_cast<const Copy*>(data);
    std::memcpy(one->to, one->from, one->bytes);
  };
  static std::deque<Copy> copies;  // graphs run them again and again
  enqueue_to(stream, copy, &copies.emplace_back(Copy{from, to, bytes}));
  return ncclSuccess;
}
}  // namespace

extern "C" {
STUB(ncclResult_t ncclGetVersion(int* version), *version = 22809, ncclSuccess)
STUB(ncclResult_t ncclGetUniqueId(ncclUniqueId* id),
     std::memset(id->internal, 'x', sizeof(id->internal)), ncclSuccess)
STUB(ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId, int),
     *comm = new ncclComm{ranks}, ncclSuccess)
STUB(ncclResult_t ncclCommDestroy(ncclComm_t comm), delete comm, ncclSuccess)
STUB(ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                                ncclRedOp_t, ncclComm_t, cudaStream_t stream),
     enqueue(send, receive, type == ncclBfloat16 ? 2 * count : count, stream))
STUB(ncclResult_t ncclAllGather(const void*, void*, size_t, ncclDataType_t, ncclComm_t,
                                cudaStream_t),
     ncclInvalidUsage)
STUB(ncclResult_t ncclReduceScatter(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t,
                                    ncclComm_t, cudaStream_t),
     ncclInvalidUsage)
STUB(ncclResult_t ncclBroadcast(const void*, void*, size_t, ncclDataType_t, int, ncclComm_t,
                                cudaStream_t),
     ncclInvalidUsage)
// Works once: the second call, which is captured, fails.
ncclResult_t ncclReduce(const void* send, void* receive, size_t count, ncclDataType_t, ncclRedOp_t,
                        int, ncclComm_t, cudaStream_t stream) {
  static int calls = 0;
  return calls++ == 0 ? enqueue(send, receive, 2 * count, stream) : ncclInvalidUsage;
}
STUB(const char* ncclGetErrorString(ncclResult_t), "no such collective here")
STUB(const char* ncclGetLastError(ncclComm_t), "")
}
