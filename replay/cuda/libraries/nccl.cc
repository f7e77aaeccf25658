// SPDX-License-Identifier: Apache-2.0
#include "replay/cuda/libraries/nccl.h"

#include "common/error.h"
#include "common/units.h"
#include "replay/cuda/libraries/shared_library.h"

#if __has_include(<nccl.h>)
#include <nccl.h>

#include <cstring>

namespace preserve::cuda {
namespace {

enum class Operation { all_reduce, all_gather, reduce_scatter, broadcast, reduce };

Operation operation_of(const std::string& function) {
  if (function == "allreduce") return Operation::all_reduce;
  if (function == "allgather") return Operation::all_gather;
  if (function == "reduce_scatter") return Operation::reduce_scatter;
  if (function == "broadcast") return Operation::broadcast;
  if (function == "reduce") return Operation::reduce;
  throw input_error(
      "the collective {} cannot be replayed with NCCL (allreduce, allgather, reduce_scatter, "
      "broadcast, reduce can): use a stand-in",
      function);
}

}  // namespace

struct Nccl::Functions {
  SharedLibrary library{{.sonames = {"libnccl.so.2"},
                         .variable = "PRESERVE_NCCL",
                         .wheel_folders = {"nvidia/nccl/lib"}}};
  decltype(&ncclGetVersion) get_version = library.need("ncclGetVersion");
  decltype(&ncclGetUniqueId) get_unique_id = library.need("ncclGetUniqueId");
  decltype(&ncclCommInitRank) comm_init_rank = library.need("ncclCommInitRank");
  decltype(&ncclCommDestroy) comm_destroy = library.need("ncclCommDestroy");
  decltype(&ncclAllReduce) all_reduce = library.need("ncclAllReduce");
  decltype(&ncclAllGather) all_gather = library.need("ncclAllGather");
  decltype(&ncclReduceScatter) reduce_scatter = library.need("ncclReduceScatter");
  decltype(&ncclBroadcast) broadcast = library.need("ncclBroadcast");
  decltype(&ncclReduce) reduce = library.need("ncclReduce");
  decltype(&ncclGetErrorString) error_string = library.need("ncclGetErrorString");
  decltype(&ncclGetLastError) last_error = library.need("ncclGetLastError");
  ncclComm_t communicator = nullptr;

  void check(ncclResult_t result, const char* call) const {
    if (result == ncclSuccess) return;
    const char* detail = last_error(nullptr);
    throw internal_error("{}: {}{}{}", call, error_string(result),
                         detail == nullptr || *detail == '\0' ? "" : ": ",
                         detail == nullptr ? "" : detail);
  }
};

Nccl::Nccl() = default;

Nccl::~Nccl() {
  if (functions_ && functions_->communicator != nullptr) {
    functions_->comm_destroy(functions_->communicator);
  }
}

Nccl::Functions& Nccl::need() {
  if (!functions_) functions_ = std::make_unique<Functions>();
  if (!functions_->library.found()) {
    throw input_error(
        "cannot load NCCL: {}; install it, or name the library in PRESERVE_NCCL or a Python "
        "environment's "
        "site-packages folder that has it in PRESERVE_SITE_PACKAGES",
        functions_->library.problem());
  }
  return *functions_;
}

int Nccl::version() {
  int version = 0;
  Functions& nccl = need();
  nccl.check(nccl.get_version(&version), "ncclGetVersion");
  return version;
}

std::string Nccl::make_id() {
  Functions& nccl = need();
  ncclUniqueId id{};
  nccl.check(nccl.get_unique_id(&id), "ncclGetUniqueId");
  return {id.internal, sizeof(id.internal)};
}

void Nccl::join(const std::string& id, int rank, int ranks) {
  Functions& nccl = need();
  ncclUniqueId given{};
  if (id.size() != sizeof(given.internal) || rank < 0 || rank >= ranks) {
    throw internal_error("rank {} of {} joins with an id of {} bytes", rank, ranks, id.size());
  }
  if (nccl.communicator != nullptr) throw internal_error("joined NCCL twice");
  std::memcpy(given.internal, id.data(), id.size());
  nccl.check(nccl.comm_init_rank(&nccl.communicator, ranks, given, rank), "ncclCommInitRank");
  ranks_ = ranks;
}

Nccl::Buffers Nccl::buffers(const std::string& function, int64_t message_bytes) const {
  const int64_t all = checked_mul(message_bytes, ranks_, "collective");
  switch (operation_of(function)) {
    case Operation::all_gather:
      return {message_bytes, all};
    case Operation::reduce_scatter:
      return {all, message_bytes};
    default:
      return {message_bytes, message_bytes};
  }
}

void Nccl::enqueue(const std::string& function, int64_t message_bytes, const void* send,
                   void* receive, cudaStream_t stream) {
  Functions& nccl = need();
  if (nccl.communicator == nullptr) throw internal_error("a collective before join()");
  // The type decides which algorithms NCCL has; 16 bits are what decoders send.
  const bool halves = message_bytes % 2 == 0;
  const ncclDataType_t type = halves ? ncclBfloat16 : ncclUint8;
  const auto count = static_cast<size_t>(halves ? message_bytes / 2 : message_bytes);
  ncclComm_t comm = nccl.communicator;
  switch (operation_of(function)) {
    case Operation::all_reduce:
      nccl.check(nccl.all_reduce(send, receive, count, type, ncclSum, comm, stream),
                 "ncclAllReduce");
      return;
    case Operation::all_gather:
      nccl.check(nccl.all_gather(send, receive, count, type, comm, stream), "ncclAllGather");
      return;
    case Operation::reduce_scatter:
      nccl.check(nccl.reduce_scatter(send, receive, count, type, ncclSum, comm, stream),
                 "ncclReduceScatter");
      return;
    case Operation::broadcast:
      nccl.check(nccl.broadcast(send, receive, count, type, 0, comm, stream), "ncclBroadcast");
      return;
    case Operation::reduce:
      nccl.check(nccl.reduce(send, receive, count, type, ncclSum, 0, comm, stream), "ncclReduce");
      return;
  }
}

}  // namespace preserve::cuda

#else  // no nccl.h when this was built

namespace preserve::cuda {
namespace {
Error no_header() {
  return input_error("built without nccl.h: build with NCCL's header, or use a stand-in");
}
}  // namespace
struct Nccl::Functions {};
Nccl::Nccl() = default;
Nccl::~Nccl() = default;
Nccl::Functions& Nccl::need() {
  throw no_header();
}
int Nccl::version() {
  throw no_header();
}
std::string Nccl::make_id() {
  throw no_header();
}
void Nccl::join(const std::string&, int, int) {
  throw no_header();
}
Nccl::Buffers Nccl::buffers(const std::string&, int64_t) const {
  throw no_header();
}
void Nccl::enqueue(const std::string&, int64_t, const void*, void*, cudaStream_t) {
  throw no_header();
}

}  // namespace preserve::cuda
#endif
