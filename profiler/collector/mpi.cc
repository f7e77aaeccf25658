// SPDX-License-Identifier: Apache-2.0
// What the MPI wrappers report, as spool records: a call at its end; of a non-blocking one the call
// that issued it, without known use, and the communication when its request completes.
#include "hooks/listener.h"
#include "hooks/mpi/calls.h"
#include "profiler/collector/recorder.h"

namespace preserve {

using namespace collector;

namespace {

void record(const mpi::Call& call, uint64_t start_ticks, uint8_t flags) {
  ThreadLog* log = this_thread(kMpi);
  if (log == nullptr) return;
  const std::string_view type = call.type_name();
  const size_t bytes =
      sizeof(spool::RecordHeader) + sizeof(spool::MpiBody) + spool::padded(type.size());
  char* out = begin_record(*log, kMpi, bytes);
  if (out == nullptr) return;
  spool::RecordHeader head = header(spool::RecordType::mpi, bytes, type.size(), 0, flags);
  const spool::MpiBody body{head.ticks,    call.bytes,    call.communicator,
                            call.sequence, call.ranks,    call.peer,
                            call.thread,   call.function, 0};
  head.ticks = start_ticks;
  std::memcpy(out, &head, sizeof(head));
  std::memcpy(out + sizeof(head), &body, sizeof(body));
  copy_text(out + sizeof(head) + sizeof(body), type);
  end_record(*log, bytes);
}

const CallWatch* watch() {
  return call_watch.load(std::memory_order_acquire);
}

}  // namespace

std::atomic<const CallWatch*> collector::call_watch{nullptr};

bool listener::mpi_wanted() {
  static const bool wanted = recording_wanted() && environment_number("PRESERVE_MPI", 0, 1, 1) == 1;
  return wanted;
}

uint64_t listener::mpi_began(const mpi::Call&) {
  if (const CallWatch* watching = watch()) watching->began();
  return ticks_now();
}

void listener::mpi_ended(const mpi::Call& call, uint64_t mark, mpi::Outcome outcome) {
  if (outcome == mpi::Outcome::done) record(call, mark, 0);
  if (const CallWatch* watching = watch()) watching->ended(call.function);
}

void listener::mpi_resumed() {
  if (const CallWatch* watching = watch()) watching->began();
}

void listener::mpi_issued(const mpi::Call& call, uint64_t mark) {
  record({.peer = call.peer, .thread = call.thread, .function = call.function}, mark,
         spool::kNonBlocking | spool::kIssued);
  if (const CallWatch* watching = watch()) {
    watching->requested(1);
    watching->ended(call.function);
  }
}

void listener::mpi_completed(const mpi::Call& call, uint64_t mark) {
  record(call, mark, spool::kNonBlocking);
  if (const CallWatch* watching = watch()) watching->requested(-1);
}

void listener::mpi_lost(const mpi::Call&, uint64_t) {
  if (const CallWatch* watching = watch()) watching->requested(-1);
  if (ThreadLog* log = this_thread(kMpi)) {
    log->count(log->received[kMpi]);
    log->count(log->dropped[kMpi]);
  }
}

void listener::mpi_rank(int rank, int ranks, std::string_view library) {
  collector::define(spool::RecordType::rank, 0,
                    {static_cast<uint64_t>(rank), static_cast<uint64_t>(ranks), 0, 0}, library);
}

void listener::mpi_spawned() {
  collector::define(spool::RecordType::rank, 0, {0, 0, 1, 0});
}

void listener::mpi_ending() {
  if (const CallWatch* watching = watch()) watching->ending();
  begin_last_flush();
}

void listener::mpi_left() {
  flush_now();
}

int listener::mpi_allreduce(const mpi::Allreduce& call, uint64_t) {
  return call.run();
}

void listener::mpi_undescribed(const char* name) {
  if (const CallWatch* watching = watch()) watching->undescribed(name);
  count_undescribed(name);
}

}  // namespace preserve
