// SPDX-License-Identifier: Apache-2.0
// The MPI library of the process, found at run time: nothing here links one, since the module that
// compiles the hooks is also loaded into programs without MPI.
//
// Made for Open MPI, whose handles are pointers. With another MPI the wrappers only pass through.
#pragma once

#include <mpi.h>

#include <cstdint>

namespace preserve::hooks {

// What the program would call under this name (MPI_X or PMPI_X) without this module: another
// tool's wrapper, or the library's own function; nullptr when there is none. A library without
// PMPI_X serves MPI_X alone, and the reverse.
void* next_function(const char* name);

template <typename F>
F next(const char* name) {
  return reinterpret_cast<F>(next_function(name));
}

// A variable of the library by its name; nullptr when it has none.
void* library_object(const char* name);

// Open MPI, and everything below can be answered.
bool library_is_known();

MPI_Comm world();
bool is_communicator(MPI_Comm communicator);  // else null, or MPI_COMM_NULL
// The one request that Open MPI hands out for every message that was complete at once.
bool is_complete(MPI_Request request);

// `count` elements of a type; -1: unknown.
int64_t message_bytes(int64_t count, MPI_Datatype type);
// Bytes that were written to `name`, which has room for MPI_MAX_OBJECT_NAME.
uint16_t type_name(MPI_Datatype type, char* name);
int communicator_rank(MPI_Comm communicator);  // -1: unknown
int communicator_size(
    MPI_Comm communicator);  // of the own side of an intercommunicator; 0: unknown
int partner_count(
    MPI_Comm communicator);  // the other side's size of an intercommunicator, else its size
// Hash of the members' ranks in MPI_COMM_WORLD, equal on all of them; 0 when one has none.
uint64_t members_hash(MPI_Comm communicator);

}  // namespace preserve::hooks
