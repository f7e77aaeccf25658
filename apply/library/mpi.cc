// SPDX-License-Identifier: Apache-2.0
// What the MPI wrappers report, handed to the session; and the progress engine of Open MPI 4 and 5,
// found at run time.
#include <dlfcn.h>

#include "apply/library/convert.h"
#include "apply/library/process.h"
#include "hooks/listener.h"
#include "hooks/mpi/library.h"

namespace preserve {

using namespace apply;

namespace {

// opal/runtime/opal_progress.h: a callback returns how many requests it completed.
using Callback = int (*)();
using Register = int (*)(Callback);

int turn() {
  Session::turn();
  return 0;
}

Register find(const char* name) {
  if (void* found = ::dlsym(RTLD_DEFAULT, name)) return reinterpret_cast<Register>(found);
  // Where the MPI library was opened privately. 40: Open MPI 4, 80: 5.
  for (const char* library : {"libopen-pal.so.40", "libopen-pal.so.80"}) {
    if (void* handle = ::dlopen(library, RTLD_LAZY | RTLD_NOLOAD)) {
      void* found = ::dlsym(handle, name);
      ::dlclose(handle);
      if (found != nullptr) return reinterpret_cast<Register>(found);
    }
  }
  return nullptr;
}

Off attach() {
  const Register add = find("opal_progress_register");
  if (add == nullptr || find("opal_progress_unregister") == nullptr) return Off::no_progress;
  return add(turn) == 0 ? Off::none : Off::progress_refused;
}

void detach() {
  if (const Register remove = find("opal_progress_unregister")) (void)remove(turn);
}

// Used from collectives of the one communicator whose calls are followed, never from two threads at
// once.
Conversion conversion;

bool is_blocking(mpi::Function function) {
  return function < mpi::kIallreduce;
}
bool is_collective(mpi::Function function) {
  return mpi::kFunctions[function].kind == mpi::Kind::collective;
}

}  // namespace

bool listener::mpi_wanted() {
  return has_plan();
}

uint64_t listener::mpi_began(const mpi::Call& call) {
  Session* rank = session();
  if (rank == nullptr) return 0;
  switch (mpi::kFunctions[call.function].kind) {
    case mpi::Kind::collective:
      return rank->began({call.bytes, call.ranks, mpi::kFirstLike[call.function], call.type_name(),
                          false, call.communicator},
                         call.thread, is_blocking(call.function));
    case mpi::Kind::p2p:
      rank->message();
      break;
    case mpi::Kind::other:
      if (mpi::is_wait(call.function)) rank->wait_began(call.request);
  }
  return 0;
}

void listener::mpi_ended(const mpi::Call& call, uint64_t, mpi::Outcome) {
  Session* rank = session();
  if (rank == nullptr) return;
  if (is_collective(call.function)) {
    if (is_blocking(call.function)) rank->ended(call.ranks);
  } else if (mpi::is_wait(call.function)) {
    rank->wait_ended();
  }
}

// Its window was closed, and stays so.
void listener::mpi_resumed() {}

int listener::mpi_allreduce(const mpi::Allreduce& call, uint64_t mark) {
  Session* rank = session();
  if (rank == nullptr || mark == Session::as_it_is) return call.run();
  switch (mark) {
    case Session::note:
      conversion.note(call);
      return call.run();
    case Session::probe:
      rank->probed(conversion.probe(call.comm, rank->has_progress()));
      return call.run();
    default:
      return conversion.run(call, *rank);
  }
}

void listener::mpi_issued(const mpi::Call& call, uint64_t mark) {
  if (Session* rank = session()) rank->issued(mark, call.request);
}

void listener::mpi_completed(const mpi::Call& call, uint64_t mark) {
  if (!is_collective(call.function)) return;
  if (Session* rank = session()) rank->completed(mark, call.ranks);
}

void listener::mpi_lost(const mpi::Call&, uint64_t mark) {
  if (Session* rank = session()) rank->lost(mark);
}

void listener::mpi_rank(int rank, int ranks, std::string_view library) {
  start_session(rank, ranks, library.substr(0, library.find_first_of(",\n")), {attach, detach});
}

// Not a rank of the program that the plan is for.
void listener::mpi_spawned() {}

void listener::mpi_ending() {
  if (Session* rank = session()) {
    rank->ending();
  } else if (!hooks::library_is_known()) {
    outcome()->state = State::off;
    outcome()->off = Off::other_library;
    outcome()->ended = 1;
  }
}

void listener::mpi_left() {}

void listener::mpi_undescribed(const char*) {
  if (has_plan()) __atomic_fetch_add(&outcome()->undescribed, 1, __ATOMIC_RELAXED);
}

}  // namespace preserve
