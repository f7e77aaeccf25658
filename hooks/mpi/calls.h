// SPDX-License-Identifier: Apache-2.0
// What the MPI wrappers share: finding the real functions without linking libmpi (the collector is
// also preloaded into programs without MPI), describing a call, recording it at its end, and
// following non-blocking calls until their request completes.
//
// Made for Open MPI, whose handles are pointers. With another MPI the wrappers only pass through.
#pragma once

#include <dlfcn.h>
#include <mpi.h>

#include <string_view>

#include "hooks/mpi/functions.h"
#include "profiler/collector/recorder.h"

#define PRESERVE_EXPORT extern "C" __attribute__((visibility("default")))

namespace preserve::collector {

// The library's own function, nullptr when there is none; libmpi may have been opened privately.
void* find_in_mpi(const char* name);

// The real function behind a wrapper: real<decltype(&PMPI_Bcast)>("PMPI_Bcast").
template <typename F>
F real(const char* name) {
  return reinterpret_cast<F>(find_in_mpi(name));
}

// Whether calls of this thread are recorded now: wanted, Open MPI, and not inside another wrapper
// (an MPI library may call its own public functions).
bool recording_mpi();

struct Call {
  spool::MpiFunction function{};
  int64_t bytes = -1;
  MPI_Datatype type{};      // null: none
  MPI_Comm communicator{};  // null: none
  int32_t peer = -1;
};

// count elements of a type; -1 when the library does not say.
int64_t message_bytes(int64_t count, MPI_Datatype type);
int communicator_size(MPI_Comm communicator);
int communicator_rank(MPI_Comm communicator);

// Guards a call: ticks of the start, the facts that must be read before it, the nesting mark.
class Recording {
 public:
  explicit Recording(const Call& call);  // reads communicator and type, counts the collective
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  // At the end of a blocking call.
  void finish();
  // At the end of a call that left `request` behind. The call itself becomes an operator without
  // known use, the communication one on the background stream when the request completes.
  void follow(MPI_Request request);

 private:
  friend class Completion;
  spool::MpiBody body_{};
  char type_name_[MPI_MAX_OBJECT_NAME] = {};
  size_t type_name_bytes_ = 0;
  uint64_t start_ticks_ = 0;
};

// Calls `function` between the ticks; `call` is made only when something is recorded.
template <typename MakeCall, typename Function>
int blocking(MakeCall make_call, Function function) {
  if (!recording_mpi()) return function();
  Recording recording(make_call());
  const int result = function();
  if (result == MPI_SUCCESS) recording.finish();
  return result;
}
template <typename MakeCall, typename Function>
int non_blocking(MPI_Request* request, MakeCall make_call, Function function) {
  if (!recording_mpi()) return function();
  Recording recording(make_call());
  const int result = function();
  if (result == MPI_SUCCESS && request != nullptr) recording.follow(*request);
  return result;
}

// Remembers the handles that a Wait or Test is about to overwrite, then ends those that completed.
class Completion {
 public:
  Completion(spool::MpiFunction function, int count, const MPI_Request* requests);
  ~Completion();
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;
  void completed(int index);
  void completed_all();
  void finish();  // records the Wait or Test itself

 private:
  bool active_ = false;
  uint64_t start_ticks_ = 0;
  spool::MpiFunction function_;
  int count_ = 0;
  uint64_t newest_ = 0;  // of the requests when it began
  MPI_Request* handles_ = nullptr;
  MPI_Request few_[32];  // most programs; more come from the heap
};

// The program gives a request up (MPI_Request_free, MPI_Cancel): whatever becomes of it, its end
// will not be seen. Before the call, after which the library may hand out the handle again.
void request_given_up(const MPI_Request* request);

// Communicators have the same number on all ranks: a hash of the members' world ranks and, of
// several with the same members, the how-manieth was created. Wrappers of the functions that create
// communicators say so here.
void communicator_created(MPI_Comm communicator);
void communicator_freed(MPI_Comm communicator);
// After MPI_Init: who this process is.
void record_rank();

}  // namespace preserve::collector
