// SPDX-License-Identifier: Apache-2.0
#include "hooks/mpi/calls.h"

#include <pthread.h>
#include <unistd.h>

#include <cstdlib>

#include "hooks/mpi/tables.h"

namespace preserve::collector {
namespace {

__attribute__((tls_model("initial-exec"))) thread_local int inside = 0;

// Names under which Open MPI 4 and 5 keep the C library.
constexpr const char* kLibraries[] = {"libmpi.so.40", "libmpi.so"};

struct Lock {
  Lock() { pthread_mutex_lock(&mutex); }
  ~Lock() { pthread_mutex_unlock(&mutex); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  static pthread_mutex_t mutex;
};
pthread_mutex_t Lock::mutex = PTHREAD_MUTEX_INITIALIZER;

CommunicatorTable communicators;  // under Lock
RequestTable requests;            // under Lock

void* find_in_library(const char* name) {
  for (const char* library : kLibraries) {
    if (void* handle = ::dlopen(library, RTLD_LAZY | RTLD_NOLOAD)) {
      void* found = ::dlsym(handle, name);
      ::dlclose(handle);
      if (found != nullptr) return found;
    }
  }
  return nullptr;
}

// A variable of the library. An executable may hold its own copy (a copy relocation), which is then
// the one that everybody uses, so the search begins there.
void* find_object_in_mpi(const char* name) {
  if (void* found = ::dlsym(RTLD_DEFAULT, name)) return found;
  return find_in_library(name);
}

bool is_open_mpi() {
  static const bool yes = find_object_in_mpi("ompi_mpi_comm_world") != nullptr;
  return yes;
}

MPI_Comm world() {
  static void* const handle = find_object_in_mpi("ompi_mpi_comm_world");
  return static_cast<MPI_Comm>(handle);
}

// Hash of the world ranks of a group (FNV-1a over the numbers); 0 when the library refuses.
uint64_t hash_of_group(MPI_Group group) {
  static const auto group_size = real<decltype(&PMPI_Group_size)>("PMPI_Group_size");
  static const auto translate =
      real<decltype(&PMPI_Group_translate_ranks)>("PMPI_Group_translate_ranks");
  static const auto comm_group = real<decltype(&PMPI_Comm_group)>("PMPI_Comm_group");
  static const auto group_free = real<decltype(&PMPI_Group_free)>("PMPI_Group_free");
  int size = 0;
  MPI_Group world_group{};
  if (group_size(group, &size) != MPI_SUCCESS || size <= 0) return 0;
  if (comm_group(world(), &world_group) != MPI_SUCCESS) return 0;
  uint64_t hash = 0xcbf29ce484222325;
  for (int rank = 0; rank < size; ++rank) {
    int in_world = -1;
    translate(group, 1, &rank, world_group, &in_world);
    hash = (hash ^ static_cast<uint32_t>(in_world)) * 0x100000001b3;
    hash ^= hash >> 29;
  }
  group_free(&world_group);
  return hash;
}

uint64_t hash_of_members(MPI_Comm communicator) {
  static const auto comm_group = real<decltype(&PMPI_Comm_group)>("PMPI_Comm_group");
  static const auto remote_group =
      real<decltype(&PMPI_Comm_remote_group)>("PMPI_Comm_remote_group");
  static const auto test_inter = real<decltype(&PMPI_Comm_test_inter)>("PMPI_Comm_test_inter");
  static const auto group_free = real<decltype(&PMPI_Group_free)>("PMPI_Group_free");
  MPI_Group group{};
  if (comm_group(communicator, &group) != MPI_SUCCESS) return 0;
  uint64_t hash = hash_of_group(group);
  group_free(&group);
  int inter = 0;
  test_inter(communicator, &inter);
  // Both sides of an inter-communicator must agree: the combination is symmetric.
  if (inter != 0 && remote_group(communicator, &group) == MPI_SUCCESS) {
    hash ^= hash_of_group(group);
    group_free(&group);
  }
  return hash;
}

CommunicatorTable::Entry* find_or_add(MPI_Comm communicator) {
  if (CommunicatorTable::Entry* entry = communicators.find(communicator)) return entry;
  return communicators.add(communicator, hash_of_members(communicator),
                           static_cast<uint32_t>(communicator_size(communicator)));
}

// Legal beside MPI_IN_PLACE and no type to ask the library about: that would end the program.
bool is_type(MPI_Datatype type) {
  static void* const null_handle = find_object_in_mpi("ompi_mpi_datatype_null");
  return type != nullptr && static_cast<void*>(type) != null_handle;
}

// The one request that Open MPI hands out for every message that was complete at once.
bool is_complete(MPI_Request request) {
  static void* const complete = find_object_in_mpi("ompi_request_empty");
  return static_cast<void*>(request) == complete;
}

size_t type_name(MPI_Datatype type, char* name) {
  static const auto get_name = real<decltype(&PMPI_Type_get_name)>("PMPI_Type_get_name");
  int length = 0;
  if (!is_type(type) || get_name(type, name, &length) != MPI_SUCCESS || length <= 0) return 0;
  return static_cast<size_t>(length);
}

void write_call(const spool::MpiBody& body, uint64_t start_ticks, uint8_t flags,
                std::string_view text) {
  ThreadLog* log = this_thread(kMpi);
  if (log == nullptr) return;
  const size_t bytes =
      sizeof(spool::RecordHeader) + sizeof(spool::MpiBody) + spool::padded(text.size());
  char* out = begin_record(*log, kMpi, bytes);
  if (out == nullptr) return;
  spool::RecordHeader head = header(spool::RecordType::mpi, bytes, text.size(), 0, flags);
  head.ticks = start_ticks;
  std::memcpy(out, &head, sizeof(head));
  std::memcpy(out + sizeof(head), &body, sizeof(body));
  std::memcpy(out + sizeof(head) + sizeof(body), text.data(), text.size());
  end_record(*log, bytes);
}

uint32_t own_tid() {
  thread_local const auto tid = static_cast<uint32_t>(::gettid());
  return tid;
}

}  // namespace

void* find_in_mpi(const char* name) {
  if (void* found = ::dlsym(RTLD_NEXT, name)) return found;
  return find_in_library(name);
}

bool recording_mpi() {
  return inside == 0 && mpi_wanted() && is_open_mpi();
}

int64_t message_bytes(int64_t count, MPI_Datatype type) {
  static const auto type_size = real<decltype(&PMPI_Type_size)>("PMPI_Type_size");
  int size = 0;
  int64_t bytes = 0;
  if (count < 0 || !is_type(type) || type_size(type, &size) != MPI_SUCCESS || size < 0) return -1;
  return __builtin_mul_overflow(count, size, &bytes) ? -1 : bytes;
}

int communicator_size(MPI_Comm communicator) {
  static const auto comm_size = real<decltype(&PMPI_Comm_size)>("PMPI_Comm_size");
  int size = 0;
  return comm_size(communicator, &size) == MPI_SUCCESS && size > 0 ? size : 0;
}

int communicator_rank(MPI_Comm communicator) {
  static const auto comm_rank = real<decltype(&PMPI_Comm_rank)>("PMPI_Comm_rank");
  int rank = 0;
  return comm_rank(communicator, &rank) == MPI_SUCCESS ? rank : -1;
}

Recording::Recording(const Call& call) {
  ++inside;
  body_.bytes = call.bytes;
  body_.peer = call.peer < 0 ? -1 : call.peer;  // MPI_ANY_SOURCE, MPI_PROC_NULL
  body_.function = call.function;
  body_.sequence = -1;
  body_.tid = own_tid();
  type_name_bytes_ = type_name(call.type, type_name_);
  if (call.communicator != nullptr) {
    const Lock lock;
    if (CommunicatorTable::Entry* entry = find_or_add(call.communicator)) {
      body_.communicator = entry->id;
      body_.ranks = entry->ranks;
      if (spool::kMpiFunctions[call.function].kind == spool::MpiKind::collective) {
        body_.sequence = entry->collectives++;
      }
    }
  }
  start_ticks_ = ticks_now();
}

Recording::~Recording() {
  --inside;
}

void Recording::finish() {
  body_.end_ticks = ticks_now();
  write_call(body_, start_ticks_, 0, {type_name_, type_name_bytes_});
}

void Recording::follow(MPI_Request request) {
  spool::MpiBody call = body_;
  call.end_ticks = ticks_now();
  call.bytes = call.sequence = -1;
  call.communicator = 0;
  call.ranks = 0;
  write_call(call, start_ticks_, spool::kNonBlocking | spool::kIssued, {});
  if (is_complete(request)) {
    body_.end_ticks = call.end_ticks;
    write_call(body_, start_ticks_, spool::kNonBlocking, {type_name_, type_name_bytes_});
    return;
  }
  bool followed = false;
  {
    const Lock lock;
    followed = requests.add(request, {body_, start_ticks_, {type_name_, type_name_bytes_}});
  }
  if (!followed) {
    if (ThreadLog* log = this_thread(kMpi)) {
      log->count(log->received[kMpi]);
      log->count(log->dropped[kMpi]);
    }
  }
}

Completion::Completion(spool::MpiFunction function, int count, const MPI_Request* handles)
    : function_(function) {
  if (!recording_mpi()) return;
  active_ = true;
  ++inside;
  start_ticks_ = ticks_now();
  if (count <= 0 || handles == nullptr || requests.empty()) return;
  handles_ = few_;
  if (static_cast<size_t>(count) > sizeof(few_) / sizeof(few_[0])) {
    handles_ =
        static_cast<MPI_Request*>(std::malloc(sizeof(MPI_Request) * static_cast<size_t>(count)));
    if (handles_ == nullptr) return;  // these stay open and show as never completed
  }
  std::memcpy(handles_, handles, sizeof(MPI_Request) * static_cast<size_t>(count));
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
  pending.body.end_ticks = ticks_now();
  write_call(pending.body, pending.start_ticks, spool::kNonBlocking, pending.type_name.view());
}

void Completion::completed_all() {
  for (int i = 0; i < count_; ++i) completed(i);
}

void Completion::finish() {
  if (!active_) return;
  spool::MpiBody body{};
  body.end_ticks = ticks_now();
  body.bytes = body.sequence = -1;
  body.peer = -1;
  body.tid = own_tid();
  body.function = function_;
  write_call(body, start_ticks_, 0, {});
}

void request_given_up(const MPI_Request* request) {
  if (request == nullptr || requests.empty()) return;
  RequestTable::Pending forgotten;
  const Lock lock;
  requests.take(*request, requests.newest(), &forgotten);
}

void communicator_created(MPI_Comm communicator) {
  if (communicator == nullptr || !mpi_wanted() || !is_open_mpi()) return;
  static void* const null_handle = find_object_in_mpi("ompi_mpi_comm_null");
  if (static_cast<void*>(communicator) == null_handle) return;
  const Lock lock;
  communicators.remove(communicator);  // a handle that was freed unseen
  find_or_add(communicator);
}

void communicator_freed(MPI_Comm communicator) {
  const Lock lock;
  communicators.remove(communicator);
}

void record_rank() {
  if (!mpi_wanted() || !is_open_mpi()) return;
  const int rank = communicator_rank(world());
  const int size = communicator_size(world());
  if (rank >= 0 && size > 0) {
    define(spool::RecordType::rank, 0,
           {static_cast<uint64_t>(rank), static_cast<uint64_t>(size), 0, 0});
  }
}

}  // namespace preserve::collector
