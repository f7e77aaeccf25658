// SPDX-License-Identifier: Apache-2.0
// What hooks/torch/recorder.py calls through ctypes: ranges of modules, named memory, and the
// collectives of torch.distributed that no other hook sees (gloo, which is part of PyTorch). They
// are c10d's functions in hooks/mpi/functions.h, because a listener does the same with them as with
// MPI's.
//
// Facts come as Python has them; nothing here looks at an object of PyTorch.
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "hooks/listener.h"
#include "hooks/nvtx/nvtx.h"

namespace {

using namespace preserve;
using nvtx::Definition;

struct Facts {
  uint32_t function;
  int32_t peer;
  int64_t bytes;
  uint64_t communicator;
  int64_t sequence;
  uint32_t ranks;
  char type[20];
};

mpi::Call call_of(const Facts& facts) {
  thread_local const auto thread = static_cast<uint32_t>(::syscall(SYS_gettid));
  mpi::Call call;
  call.bytes = facts.bytes;
  call.communicator = facts.communicator;
  call.sequence = facts.sequence;
  call.ranks = facts.ranks;
  call.peer = facts.peer;
  call.thread = thread;
  call.function =
      static_cast<mpi::Function>(std::min<uint32_t>(facts.function, mpi::kFunctionCount - 1));
  call.type_bytes = static_cast<uint16_t>(::strnlen(facts.type, sizeof(facts.type)));
  std::memcpy(call.type, facts.type, call.type_bytes);
  return call;
}

}  // namespace

#define PRESERVE_TORCH extern "C" __attribute__((visibility("default")))

// Bit 0: ranges and memory are wanted; bit 1: collectives are.
PRESERVE_TORCH uint32_t preserve_torch_wanted() {
  return (listener::nvtx_wanted() ? 1u : 0u) | (listener::mpi_wanted() ? 2u : 0u);
}

// The number of a name, for preserve_torch_push().
PRESERVE_TORCH uint32_t preserve_torch_name(const char* text) {
  const uint64_t id = hooks::next_id() & UINT32_MAX;
  listener::define(Definition::string, 0, {id, 0, 0, 0}, hooks::bounded(text));
  return static_cast<uint32_t>(id);
}

PRESERVE_TORCH void preserve_torch_push(uint32_t name) {
  nvtx::Event event;
  event.string_id = name;
  (void)listener::push(0, {}, &event);
}
PRESERVE_TORCH void preserve_torch_pop() {
  (void)listener::pop(0, nullptr);
}
PRESERVE_TORCH void preserve_torch_mark(const char* text) {
  listener::mark(0, hooks::bounded(text), nullptr);
}

PRESERVE_TORCH void preserve_torch_region(const char* name, uint64_t address, uint64_t bytes) {
  listener::define(Definition::region, 0, {hooks::next_id(), 0, address, bytes});
  listener::define(Definition::region_name, 0, {0, 0, address, 0}, hooks::bounded(name));
}

PRESERVE_TORCH void preserve_torch_rank(int32_t rank, int32_t ranks, const char* library) {
  listener::mpi_rank(rank, ranks, hooks::bounded(library));
}

// The number of one of c10d's functions; mpi::kFunctionCount when it is none.
PRESERVE_TORCH uint32_t preserve_torch_function(const char* name) {
  return mpi::function_named(name);
}
PRESERVE_TORCH uint64_t preserve_torch_began(const Facts* facts) {
  return listener::mpi_began(call_of(*facts));
}
PRESERVE_TORCH void preserve_torch_ended(const Facts* facts, uint64_t mark, int32_t failed) {
  listener::mpi_ended(call_of(*facts), mark,
                      failed != 0 ? mpi::Outcome::failed : mpi::Outcome::done);
}
PRESERVE_TORCH void preserve_torch_issued(const Facts* facts, uint64_t mark) {
  listener::mpi_issued(call_of(*facts), mark);
}
PRESERVE_TORCH void preserve_torch_completed(const Facts* facts, uint64_t mark) {
  listener::mpi_completed(call_of(*facts), mark);
}
PRESERVE_TORCH void preserve_torch_lost(const Facts* facts, uint64_t mark) {
  listener::mpi_lost(call_of(*facts), mark);
}
