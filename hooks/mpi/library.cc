// SPDX-License-Identifier: Apache-2.0
#include "hooks/mpi/library.h"

#include <dlfcn.h>

#include <limits.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "common/hash.h"
#include "common/no_copy.h"
#include "hooks/unnoticed.h"

namespace preserve::hooks {

bool numbers_are_handles = false;

namespace {

// Where the library was opened privately, as Python's modules are. Its name tells little:
// libmpi.so.40 is Open MPI, libmpi.so.12, libmpich.so.12 and libmpi_gnu_112.so.12 are of MPICH's
// kind, and beside each lie libraries for Fortran, which lead to it.
constexpr std::string_view kPrefix = "libmpi";
constexpr size_t kMostLibraries = 16;

struct Loaded {
  char paths[kMostLibraries][PATH_MAX];
  size_t count = 0;
};

int note_library(dl_phdr_info* object, size_t, void* to) {
  auto* loaded = static_cast<Loaded*>(to);
  const std::string_view path = object->dlpi_name == nullptr ? "" : object->dlpi_name;
  const std::string_view file = path.substr(path.rfind('/') + 1);
  if (file.substr(0, kPrefix.size()) != kPrefix || path.size() >= PATH_MAX) return 0;
  std::memcpy(loaded->paths[loaded->count], path.data(), path.size());
  loaded->paths[loaded->count][path.size()] = '\0';
  return ++loaded->count == kMostLibraries ? 1 : 0;
}

void* find_in_library(const char* name) {
  auto* loaded = static_cast<Loaded*>(std::calloc(1, sizeof(Loaded)));
  if (loaded == nullptr) return nullptr;
  ::dl_iterate_phdr(note_library, loaded);  // which holds a lock: nothing is opened meanwhile
  void* found = nullptr;
  for (size_t i = 0; i < loaded->count && found == nullptr; ++i) {
    if (void* handle = ::dlopen(loaded->paths[i], RTLD_LAZY | RTLD_NOLOAD)) {
      found = ::dlsym(handle, name);
      ::dlclose(handle);
    }
  }
  std::free(loaded);
  return found;
}

void* find(const char* name) {
  if (void* found = ::dlsym(RTLD_NEXT, name)) return found;
  return find_in_library(name);
}

// A variable of the library. An executable may hold its own copy (a copy relocation), which is then
// the one that everybody uses, so the search begins there.
void* find_object(const char* name) {
  if (void* found = ::dlsym(RTLD_DEFAULT, name)) return found;
  return find_in_library(name);
}

enum class Kind : uint8_t { unknown, open_mpi, mpich };

// mpi.h of MPICH; the binary interface that Intel, Cray and others share fixes them.
constexpr uintptr_t kMpichWorld = 0x44000000, kMpichNullCommunicator = 0x04000000,
                    kMpichNullType = 0x0c000000;
constexpr uintptr_t kMpichKind = 0xfc000000, kMpichBuiltInRequest = 0x6c000000;
constexpr intptr_t kMpichInPlace = -1;
constexpr int kMpichNullProcess = -1, kMpichRoot = -3;
constexpr size_t kMostNameBytes = 256;  // of a type; 128 in MPICH

template <typename Handle>
Handle number(uintptr_t value) {
  return reinterpret_cast<Handle>(value);
}

bool is_of_mpichs_kind(decltype(&PMPI_Get_library_version) ask) {
  static char text[kMostVersionBytes];  // once, before any other thread can be told the answer
  int length = 0;
  if (ask == nullptr || ask(text, &length) != MPI_SUCCESS || length <= 0) return false;
  const std::string_view version(text, std::min(static_cast<size_t>(length), sizeof(text)));
  for (const std::string_view name : {"MPICH", "Intel(R) MPI", "MVAPICH"}) {
    if (version.find(name) != std::string_view::npos) return true;
  }
  return false;
}

// The questions that are asked of the library itself, past every tool.
struct Library {
  Kind kind = Kind::unknown;
  decltype(&PMPI_Type_size) type_size;
  decltype(&PMPI_Type_get_name) type_get_name;
  decltype(&PMPI_Comm_size) comm_size;
  decltype(&PMPI_Comm_remote_size) comm_remote_size;
  decltype(&PMPI_Comm_rank) comm_rank;
  decltype(&PMPI_Comm_test_inter) comm_test_inter;
  decltype(&PMPI_Comm_group) comm_group;
  decltype(&PMPI_Comm_remote_group) comm_remote_group;
  decltype(&PMPI_Group_size) group_size;
  decltype(&PMPI_Group_translate_ranks) group_translate_ranks;
  decltype(&PMPI_Group_free) group_free;
  decltype(&PMPI_Get_library_version) version;
  decltype(&PMPI_Initialized) initialized;
  decltype(&PMPI_Comm_get_parent) comm_get_parent;
  MPI_Comm world;
  void *comm_null, *type_null, *request_empty;
  bool complete = false;

  Library() {
    const KeepErrno kept;
    const auto take = [](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(find(name));
      return function != nullptr;
    };
    world = static_cast<MPI_Comm>(find_object("ompi_mpi_comm_world"));
    comm_null = find_object("ompi_mpi_comm_null");
    type_null = find_object("ompi_mpi_datatype_null");
    request_empty = find_object("ompi_request_empty");
    take(version, "PMPI_Get_library_version");
    if (world != nullptr) {
      kind = Kind::open_mpi;
    } else if (is_of_mpichs_kind(version)) {
      kind = Kind::mpich;
      numbers_are_handles = true;
      world = number<MPI_Comm>(kMpichWorld);
      comm_null = number<void*>(kMpichNullCommunicator);
      type_null = number<void*>(kMpichNullType);
    }
    complete =
        kind != Kind::unknown && take(initialized, "PMPI_Initialized") &&
        take(comm_get_parent, "PMPI_Comm_get_parent") && take(type_size, "PMPI_Type_size") &&
        take(type_get_name, "PMPI_Type_get_name") && take(comm_size, "PMPI_Comm_size") &&
        take(comm_remote_size, "PMPI_Comm_remote_size") && take(comm_rank, "PMPI_Comm_rank") &&
        take(comm_test_inter, "PMPI_Comm_test_inter") && take(comm_group, "PMPI_Comm_group") &&
        take(comm_remote_group, "PMPI_Comm_remote_group") && take(group_size, "PMPI_Group_size") &&
        take(group_translate_ranks, "PMPI_Group_translate_ranks") &&
        take(group_free, "PMPI_Group_free");
  }
};
const Library& library() {
  static const Library found;
  return found;
}

__attribute__((tls_model("initial-exec"))) thread_local int asking = 0;
struct Asking : NoCopy {
  Asking() { ++asking; }
  ~Asking() { --asking; }
};

// MPI_DATATYPE_NULL is legal next to MPI_IN_PLACE; to ask the library about it would end the
// program.
bool is_type(MPI_Datatype type) {
  return type != nullptr && static_cast<void*>(plain(type)) != library().type_null;
}

// A program that has a session and no world may not ask for it.
bool has_world() {
  int yes = 0;
  return library().initialized(&yes) == MPI_SUCCESS && yes != 0;
}

bool is_intercommunicator(MPI_Comm communicator) {
  int inter = 0;
  return library().comm_test_inter(communicator, &inter) == MPI_SUCCESS && inter != 0;
}

// FNV-1a over the numbers; 0 when the library refuses.
uint64_t group_hash(MPI_Group group) {
  int size = 0;
  MPI_Group world_group{};
  if (library().group_size(group, &size) != MPI_SUCCESS || size <= 0) return 0;
  if (!has_world() || library().comm_group(world(), &world_group) != MPI_SUCCESS) return 0;
  uint64_t hash = kFnvBasis;
  for (int rank = 0; rank < size; ++rank) {
    int in_world = MPI_UNDEFINED;
    library().group_translate_ranks(group, 1, &rank, world_group, &in_world);
    if (in_world < 0) {  // of another world, where this process has no number either
      hash = 0;
      break;
    }
    hash = fnv_next(hash, static_cast<uint32_t>(in_world));
    hash ^= hash >> 29;
  }
  library().group_free(&world_group);
  return hash;
}

}  // namespace

void* next_function(const char* name) {
  const KeepErrno kept;
  if (void* found = find(name)) return found;
  if (name[0] == 'P')
    return nullptr;  // MPI_X may be a tool that calls PMPI_X: it would never return
  char other[64];
  std::snprintf(other, sizeof(other), "P%s", name);
  return find(other);
}

void* library_object(const char* name) {
  return find_object(name);
}

bool library_is_known() {
  return library().complete;
}

bool asking_library() {
  return asking != 0;
}

bool is_in_place(const void* buffer) {
  if (!handles_are_numbers()) return buffer == MPI_IN_PLACE;
  return reinterpret_cast<intptr_t>(buffer) == kMpichInPlace;
}

bool is_null_process(int rank) {
  return rank == (handles_are_numbers() ? kMpichNullProcess : MPI_PROC_NULL);
}

bool is_root_of_other_side(int rank) {
  return rank == (handles_are_numbers() ? kMpichRoot : MPI_ROOT);
}

MPI_Comm world() {
  return library().world;
}

bool is_communicator(MPI_Comm communicator) {
  return communicator != nullptr && static_cast<void*>(plain(communicator)) != library().comm_null;
}

bool is_complete(MPI_Request request) {
  if (!handles_are_numbers()) return static_cast<void*>(request) == library().request_empty;
  return (reinterpret_cast<uintptr_t>(request) & kMpichKind) == kMpichBuiltInRequest;
}

int64_t message_bytes(int64_t count, MPI_Datatype type) {
  const Asking now;
  int size = 0;
  int64_t bytes = 0;
  if (count < 0 || !is_type(type) || library().type_size(type, &size) != MPI_SUCCESS || size < 0) {
    return -1;
  }
  return __builtin_mul_overflow(count, size, &bytes) ? -1 : bytes;
}

uint16_t type_name(MPI_Datatype type, char* name, size_t room) {
  const Asking now;
  char longer[kMostNameBytes];
  char* const to = handles_are_numbers() || room < MPI_MAX_OBJECT_NAME ? longer : name;
  int length = 0;
  if (!is_type(type) || library().type_get_name(type, to, &length) != MPI_SUCCESS || length <= 0 ||
      static_cast<size_t>(length) > sizeof(longer)) {
    return 0;
  }
  const size_t bytes = std::min(static_cast<size_t>(length), room);
  if (to != name) std::memcpy(name, to, bytes);
  return static_cast<uint16_t>(bytes);
}

size_t library_version(char* text) {
  const Asking now;
  int length = 0;
  if (library().version == nullptr || library().version(text, &length) != MPI_SUCCESS) return 0;
  return static_cast<size_t>(std::max(0, length));
}

bool was_spawned() {
  const Asking now;
  MPI_Comm parent{};
  return library().comm_get_parent(&parent) == MPI_SUCCESS && is_communicator(parent);
}

int communicator_rank(MPI_Comm communicator) {
  const Asking now;
  int rank = 0;
  return library().comm_rank(communicator, &rank) == MPI_SUCCESS ? rank : -1;
}

int communicator_size(MPI_Comm communicator) {
  const Asking now;
  int size = 0;
  return library().comm_size(communicator, &size) == MPI_SUCCESS && size > 0 ? size : 0;
}

int partner_count(MPI_Comm communicator) {
  const Asking now;
  if (!is_intercommunicator(communicator)) return communicator_size(communicator);
  int size = 0;
  return library().comm_remote_size(communicator, &size) == MPI_SUCCESS && size > 0 ? size : 0;
}

uint64_t members_hash(MPI_Comm communicator) {
  const Asking now;
  MPI_Group group{};
  if (library().comm_group(communicator, &group) != MPI_SUCCESS) return 0;
  uint64_t hash = group_hash(group);
  library().group_free(&group);
  if (hash == 0 || !is_intercommunicator(communicator)) return hash;
  // Both sides must agree: the combination is symmetric.
  if (library().comm_remote_group(communicator, &group) != MPI_SUCCESS) return 0;
  const uint64_t remote = group_hash(group);
  library().group_free(&group);
  return remote == 0 ? 0 : hash ^ remote;
}

}  // namespace preserve::hooks
