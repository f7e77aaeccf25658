// SPDX-License-Identifier: Apache-2.0
// The MPI library of the process, found at run time: nothing here links one, since the module that
// compiles the hooks is also loaded into programs without MPI.
//
// Which one it is shows only then, and so does what its handles are: pointers in Open MPI, by whose
// mpi.h this is compiled; 32-bit numbers in MPICH and the libraries that share its binary interface
// (Intel MPI, MVAPICH, Cray MPICH). Such a number comes in the lower half of the register in which
// a wrapper expects a pointer, and goes on in it; an array of handles has elements of half the
// size. The functions here speak of either kind in one form, and so must everything that looks at a
// handle, a sentinel or an array of handles. With another MPI the wrappers only pass through.
#pragma once

#include <mpi.h>

#include <cstdint>

namespace preserve::hooks {

// What the program would call under this name (MPI_X or PMPI_X) without this module: another
// tool's wrapper, or the library's own function; nullptr when there is none. A library without
// PMPI_X serves MPI_X alone, and the reverse.
void* next_function(const char* name);
// Once library_is_known() was asked. A plain load: each call asks several times.
extern bool numbers_are_handles;
inline bool handles_are_numbers() {
  return numbers_are_handles;
}

template <typename F>
F next(const char* name) {
  return reinterpret_cast<F>(next_function(name));
}

// A variable of the library by its name; nullptr when it has none.
void* library_object(const char* name);

// One of the two kinds, and everything below can be answered.
bool library_is_known();

// Whether this thread is in one of the questions below: an error there is not the program's.
bool asking_library();

// A handle as it is remembered and compared: of a number without what else the register held.
template <typename Handle>
Handle plain(Handle handle) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(handle);
  return reinterpret_cast<Handle>(handles_are_numbers() ? bits & UINT32_MAX : bits);
}
// An element of an array of handles, or the handle behind a pointer.
template <typename Handle>
Handle handle_at(const Handle* handles, size_t index = 0) {
  if (!handles_are_numbers()) return handles[index];
  uint32_t number = 0;
  __builtin_memcpy(&number, reinterpret_cast<const char*>(handles) + index * sizeof(number),
                   sizeof(number));
  return reinterpret_cast<Handle>(static_cast<uintptr_t>(number));
}

bool is_in_place(const void* buffer);
bool is_null_process(int rank);
bool is_root_of_other_side(int rank);  // MPI_ROOT

MPI_Comm world();
bool is_communicator(MPI_Comm communicator);  // else null, or MPI_COMM_NULL
// What is handed out for every message that was complete at once: one request of Open MPI, one for
// each kind of message of MPICH.
bool is_complete(MPI_Request request);

// `count` elements of a type; -1: unknown.
int64_t message_bytes(int64_t count, MPI_Datatype type);
// Bytes that were written to `name`, which has room for `room`; longer names are cut.
uint16_t type_name(MPI_Datatype type, char* name, size_t room);
// Name and version as the library says them; `text` has room for kMostVersionBytes.
inline constexpr size_t kMostVersionBytes = 8192;  // of MPICH, the longest
size_t library_version(char* text);
// This process was started by MPI_Comm_spawn: its MPI_COMM_WORLD is not the first one of the job.
bool was_spawned();
int communicator_rank(MPI_Comm communicator);  // -1: unknown
int communicator_size(
    MPI_Comm communicator);  // of the own side of an intercommunicator; 0: unknown
int partner_count(
    MPI_Comm communicator);  // the other side's size of an intercommunicator, else its size
// Hash of the members' ranks in MPI_COMM_WORLD, equal on all of them; 0 when one has none.
uint64_t members_hash(MPI_Comm communicator);

}  // namespace preserve::hooks
