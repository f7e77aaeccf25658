// SPDX-License-Identifier: Apache-2.0
#include "hooks/mpi/calls.h"

#include <pthread.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "common/no_copy.h"
#include "hooks/mpi/tables.h"

namespace preserve::hooks {
namespace {

__attribute__((tls_model("initial-exec"))) thread_local int inside = 0;

__attribute__((tls_model("initial-exec"))) thread_local Open open;

uint64_t begin(const mpi::Call& call) {
  open = {listener::mpi_began(call), call.ranks, call.function, true};
  return open.mark;
}

// Whether it was: the listener is told of an end once, but where the call is resumed.
bool end() {
  return std::exchange(open.is, false);
}

struct Lock : NoCopy {
  Lock() { pthread_mutex_lock(&mutex); }
  ~Lock() { pthread_mutex_unlock(&mutex); }
  static pthread_mutex_t mutex;
};
pthread_mutex_t Lock::mutex = PTHREAD_MUTEX_INITIALIZER;

CommunicatorTable communicators;  // under Lock
RequestTable requests;            // under Lock

CommunicatorTable::Entry* find_or_add(MPI_Comm given) {
  if (!is_communicator(given)) return nullptr;
  const MPI_Comm communicator = plain(given);
  if (CommunicatorTable::Entry* entry = communicators.find(communicator)) return entry;
  return communicators.add(communicator, members_hash(communicator),
                           static_cast<uint32_t>(communicator_size(communicator)), 0);
}

uint32_t own_thread() {
  thread_local const auto id = static_cast<uint32_t>(::gettid());
  return id;
}

}  // namespace

bool listening() {
  return inside == 0 && listener::mpi_wanted() && library_is_known();
}

bool inside_call() {
  return inside != 0;
}

Inside::Inside() {
  ++inside;
}
Inside::~Inside() {
  --inside;
}

Outside::Outside() : inside_(std::exchange(inside, 0)), interrupted_(open) {
  if (!end()) return;
  mpi::Call call;
  call.function = open.function;
  call.ranks = open.ranks;
  listener::mpi_ended(call, open.mark, mpi::Outcome::failed);
}
Outside::~Outside() {
  inside = inside_;
}
void Outside::came_back() {
  if (!interrupted_.is) return;
  listener::mpi_resumed();
  open = interrupted_;
}

Report::Report(mpi::Function function, const Facts& facts) {
  call_.function = function;
  call_.bytes = facts.bytes;
  call_.peer = facts.peer < 0 ? -1 : facts.peer;  // MPI_ANY_SOURCE, MPI_PROC_NULL, MPI_ROOT
  call_.thread = own_thread();
  call_.type_bytes = type_name(facts.type, call_.type, sizeof(call_.type));
  if (facts.communicator != nullptr) {
    const Lock lock;
    if (CommunicatorTable::Entry* entry = find_or_add(facts.communicator)) {
      call_.communicator = entry->id;
      call_.ranks = entry->ranks;
      if (mpi::kFunctions[function].kind == mpi::Kind::collective) {
        call_.sequence = entry->collectives++;
      }
    }
  }
  mark_ = begin(call_);
}

void Report::ended(int result) {
  if (!end()) return;
  listener::mpi_ended(call_, mark_,
                      result == MPI_SUCCESS ? mpi::Outcome::done : mpi::Outcome::failed);
}

void Report::left(MPI_Request request) {
  if (!end()) return;
  call_.request = request;
  listener::mpi_issued(call_, mark_);
  if (is_complete(request)) return listener::mpi_completed(call_, mark_);
  bool followed = false;
  {
    const Lock lock;
    followed = requests.add(request, {call_, mark_});
  }
  if (!followed) listener::mpi_lost(call_, mark_);
}

Completion::Completion(mpi::Function function, int count, const MPI_Request* handles) {
  if (!listening()) return;
  active_ = true;
  ++inside;
  call_.function = function;
  call_.thread = own_thread();
  if (count == 1 && handles != nullptr) call_.request = handle_at(handles);
  mark_ = begin(call_);
  if (count <= 0 || handles == nullptr || requests.empty()) return;
  handles_ = few_;
  if (static_cast<size_t>(count) > sizeof(few_) / sizeof(few_[0])) {
    handles_ =
        static_cast<MPI_Request*>(std::malloc(sizeof(MPI_Request) * static_cast<size_t>(count)));
    if (handles_ == nullptr) return;  // these stay open and show as never completed
  }
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) handles_[i] = handle_at(handles, i);
  count_ = count;
  newest_ = requests.newest();
}

Completion::~Completion() {
  if (active_) --inside;
  if (handles_ != few_) std::free(handles_);
}

void Completion::completed(int index) {
  if (index < 0 || index >= count_) return;
  RequestTable::Pending pending;
  {
    const Lock lock;
    if (!requests.take(handles_[index], newest_, &pending)) return;
  }
  listener::mpi_completed(pending.call, pending.mark);
}

void Completion::completed_all() {
  for (int i = 0; i < count_; ++i) completed(i);
}

void Completion::ended(mpi::Outcome outcome) {
  if (active_ && end()) listener::mpi_ended(call_, mark_, outcome);
}

void request_given_up(const MPI_Request* request) {
  if (request == nullptr || requests.empty()) return;
  RequestTable::Pending forgotten;
  const Lock lock;
  requests.take(handle_at(request), requests.newest(), &forgotten);
}

Making::Making(MPI_Comm parent) {
  if (!listening_) return;
  const Lock lock;
  if (CommunicatorTable::Entry* entry = find_or_add(parent)) {
    origin_ = CommunicatorTable::next_origin(*entry);
    members_ = entry->members;
    ranks_ = entry->ranks;
  }
}

void Making::made(int result, const MPI_Comm* made) {
  if (!listening_ || result != MPI_SUCCESS) return;
  const MPI_Comm communicator = handle_at(made);
  if (!is_communicator(communicator)) return;
  add(communicator, members_hash(communicator),
      static_cast<uint32_t>(communicator_size(communicator)));
}

void Making::copied(int result, const MPI_Comm* communicator) {
  if (listening_ && result == MPI_SUCCESS) add(handle_at(communicator), members_, ranks_);
}

void Making::add(MPI_Comm communicator, uint64_t members, uint32_t ranks) {
  const Lock lock;
  communicators.remove(communicator);  // a handle that was freed unseen
  if (origin_ == 0) origin_ = communicators.next_origin(members, salt_);
  communicators.add(communicator, members, ranks, origin_);
}

uint64_t number_of(MPI_Comm parent) {
  if (!listening()) return 0;
  const Lock lock;
  const CommunicatorTable::Entry* entry = find_or_add(parent);
  return entry == nullptr ? 0 : entry->id;
}

void communicator_freed(const MPI_Comm* freed) {
  if (freed == nullptr || !library_is_known()) return;
  const MPI_Comm communicator = handle_at(freed);
  const Lock lock;
  communicators.remove(communicator);
}

}  // namespace preserve::hooks
