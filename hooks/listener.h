// SPDX-License-Identifier: Apache-2.0
// What the entry points in hooks/ report, and to whom. Each module that compiles them defines every
// function of `listener` itself, an empty one for events that it does not use: direct calls, so
// that an event costs one jump, and a function that is missing does not link.
//
// They are called on the program's own threads, between any two of its instructions: nothing may
// throw, exit, block, print, or allocate on a hot path. Texts and pointers are valid during the
// call only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "hooks/mpi/functions.h"

struct nvtxPayloadData_v1;
struct nvtxPayloadEnumAttr_v1;
struct nvtxPayloadSchemaAttr_v1;

namespace preserve::nvtx {

// Longer texts are cut: a text of one byte more is one that was longer.
inline constexpr size_t kMaxTextBytes = 4096;

// What an event has in addition to its text.
struct Event {
  uint64_t payload = 0;       // bits of the scalar payload
  uint32_t payload_type = 0;  // nvtxPayloadType_t; NVTX_PAYLOAD_TYPE_EXT: `payloads`
  uint32_t category = 0;
  uint32_t string_id = 0;  // registered message; 0: the text
  const nvtxPayloadData_v1* payloads = nullptr;
  size_t payload_count = 0;
};

// What is named, registered or moved. Unused numbers are 0.
enum class Definition : uint8_t {
  string,
  domain,
  category,
  thread_name,
  resource,  // parent: identifier type, base: identifier, bytes: registered name
  heap,      // parent: registered name; of virtual memory: base, bytes
  heap_unregister,
  heap_reset,
  region,  // parent: heap
  region_resize,
  region_unregister,
  region_name,  // parent: registered name
};
struct Numbers {
  uint64_t id = 0;  // of a region its handle, or 0 where only `base` names it
  uint64_t parent = 0;
  uint64_t base = 0;   // address
  uint64_t bytes = 0;  // size
};

}  // namespace preserve::nvtx

namespace preserve::mpi {

struct Call {
  int64_t bytes = -1;             // message of this rank; -1: unknown
  uint64_t communicator = 0;      // number, equal on all its ranks; 0: none or unknown
  int64_t sequence = -1;          // of the collectives of that communicator; -1: no collective
  uint32_t ranks = 0;             // size of the communicator; 0: unknown
  int32_t peer = -1;              // root, destination or source; -1: none
  const void* request = nullptr;  // of a call that left one, and of a Wait or Test of a single one
  uint32_t thread = 0;            // system id of the thread that made the call
  Function function{};
  uint16_t type_bytes = 0;
  char type[64] = {};
  std::string_view type_name() const { return {type, type_bytes}; }
};

struct Allreduce;  // hooks/mpi/calls.h

enum class Outcome : uint8_t { done, nothing_complete /* of a Test */, failed };

}  // namespace preserve::mpi

namespace preserve::nccl {

struct Communicator {
  uint64_t id;  // equal on all ranks
  const char* name;
  int nodes, ranks, rank;
};
struct Call {
  const char *function, *datatype, *algorithm,
      *protocol;          // the last two nullptr of point-to-point calls
  uint64_t communicator;  // 0: unknown
  uint64_t sequence;      // of collectives
  uint64_t count;         // elements
  const void *send, *receive;
  int32_t peer;  // of point-to-point calls, else -1
  uint8_t channels;
  bool point_to_point;
  uint8_t interface_version;
};

}  // namespace preserve::nccl

namespace preserve::listener {

// --- NVTX: asked as a binary of the program starts to use it; when false its calls stay no-ops ---
bool nvtx_wanted();
// Levels as NVTX's own functions return them.
int push(uint16_t domain, std::string_view text, const nvtx::Event* event);
int pop(uint16_t domain, const nvtx::Event* event);
void mark(uint16_t domain, std::string_view text, const nvtx::Event* event);
// Returns the number that the program gives to the end of the range: this one, or with the highest
// bit set.
uint64_t start(uint16_t domain, uint64_t range, std::string_view text, const nvtx::Event* event);
void end(uint16_t domain, uint64_t range, const nvtx::Event* event);
void define(nvtx::Definition what, uint16_t domain, const nvtx::Numbers& numbers,
            std::string_view text = {});
void define_schema(uint16_t domain, uint64_t id, const nvtxPayloadSchemaAttr_v1& schema);
void define_enumeration(uint16_t domain, uint64_t id, const nvtxPayloadEnumAttr_v1& enumeration);

// --- MPI. A call begins and ends on one thread, which is inside the library in between; that is
// where a listener may use the wait, from a callback of the library's progress engine. What
// mpi_began() returns comes back as `mark`. ---
bool mpi_wanted();
uint64_t mpi_began(const mpi::Call& call);
// Of every call but one that left a request.
void mpi_ended(const mpi::Call& call, uint64_t mark, mpi::Outcome outcome);
// An error handler of the program has come back into a call whose end was reported as failed before
// it, since many do not: the call goes on, and its end will be reported again.
void mpi_resumed();
// A blocking allreduce between its mpi_began() and mpi_ended(): to be run here, as it is or in
// another way that gives the program the same. Returns MPI's result.
int mpi_allreduce(const mpi::Allreduce& call, uint64_t mark);
// The call has left `call.request`; its communication ends at mpi_completed(), on any thread, or is
// lost from sight.
void mpi_issued(const mpi::Call& call, uint64_t mark);
void mpi_completed(const mpi::Call& call, uint64_t mark);
void mpi_lost(const mpi::Call& call, uint64_t mark);
// Of this process, after MPI_Init. `library`: what MPI_Get_library_version says; empty: it has
// none.
void mpi_rank(int rank, int ranks, std::string_view library);
// Instead, of one that MPI_Comm_spawn started: its ranks count another MPI_COMM_WORLD.
void mpi_spawned();
// MPI is about to end here. Other ranks may already be waiting inside of it for this one: not the
// moment to wait for anything.
void mpi_ending();
// MPI has ended here, or is about to be aborted: the moment to wait for what must not be lost,
// shortly, since the launcher may end this process from here on.
void mpi_left();
// One call of a function that is not described; always the same pointer for the same function.
void mpi_undescribed(const char* name);

// --- Memory: only in modules that compile hooks/memory. Blocks of the heap that are smaller than
// this are not reported; SIZE_MAX: nothing is. Asked at each call. ---
size_t memory_least_bytes();
// The program has got a block of the heap, or private pages. `protection`: PROT_*.
void memory_came(const void* begin, size_t bytes, int protection);
// Before it gives them up, or changes how they may be used to `protection`; a whole or a part of
// any size.
void memory_goes(const void* begin, size_t bytes, int protection);

// --- CUDA: libcuda starts ---
void cuda_began();

// --- NCCL ---
bool nccl_wanted();
void nccl_communicator(const nccl::Communicator& communicator);
void nccl_call(const nccl::Call& call);

}  // namespace preserve::listener
