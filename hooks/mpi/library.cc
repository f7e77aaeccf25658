// SPDX-License-Identifier: Apache-2.0
#include "hooks/mpi/library.h"

#include <dlfcn.h>

#include <cstdio>
#include <type_traits>

namespace preserve::hooks {
namespace {

// Names under which Open MPI 4 and 5 keep the C library.
constexpr const char* kLibraries[] = {"libmpi.so.40", "libmpi.so"};

// Where the library was opened privately.
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

// The questions that are asked of the library itself, past every tool.
struct Library {
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
  MPI_Comm world;
  void *comm_null, *type_null, *request_empty;
  bool complete = false;

  Library() {
    const auto take = [](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(find(name));
      return function != nullptr;
    };
    world = static_cast<MPI_Comm>(find_object("ompi_mpi_comm_world"));
    comm_null = find_object("ompi_mpi_comm_null");
    type_null = find_object("ompi_mpi_datatype_null");
    request_empty = find_object("ompi_request_empty");
    complete =
        world != nullptr && take(type_size, "PMPI_Type_size") &&
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

// MPI_DATATYPE_NULL is legal next to MPI_IN_PLACE; to ask the library about it would end the
// program.
bool is_type(MPI_Datatype type) {
  return type != nullptr && static_cast<void*>(type) != library().type_null;
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
  if (library().comm_group(world(), &world_group) != MPI_SUCCESS) return 0;
  uint64_t hash = 0xcbf29ce484222325;
  for (int rank = 0; rank < size; ++rank) {
    int in_world = MPI_UNDEFINED;
    library().group_translate_ranks(group, 1, &rank, world_group, &in_world);
    if (in_world < 0) {  // of another world, where this process has no number either
      hash = 0;
      break;
    }
    hash = (hash ^ static_cast<uint32_t>(in_world)) * 0x100000001b3;
    hash ^= hash >> 29;
  }
  library().group_free(&world_group);
  return hash;
}

}  // namespace

void* next_function(const char* name) {
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

MPI_Comm world() {
  return library().world;
}

bool is_communicator(MPI_Comm communicator) {
  return communicator != nullptr && static_cast<void*>(communicator) != library().comm_null;
}

bool is_complete(MPI_Request request) {
  return static_cast<void*>(request) == library().request_empty;
}

int64_t message_bytes(int64_t count, MPI_Datatype type) {
  int size = 0;
  int64_t bytes = 0;
  if (count < 0 || !is_type(type) || library().type_size(type, &size) != MPI_SUCCESS || size < 0) {
    return -1;
  }
  return __builtin_mul_overflow(count, size, &bytes) ? -1 : bytes;
}

uint16_t type_name(MPI_Datatype type, char* name) {
  int length = 0;
  if (!is_type(type) || library().type_get_name(type, name, &length) != MPI_SUCCESS ||
      length <= 0 || length > MPI_MAX_OBJECT_NAME) {
    return 0;
  }
  return static_cast<uint16_t>(length);
}

int communicator_rank(MPI_Comm communicator) {
  int rank = 0;
  return library().comm_rank(communicator, &rank) == MPI_SUCCESS ? rank : -1;
}

int communicator_size(MPI_Comm communicator) {
  int size = 0;
  return library().comm_size(communicator, &size) == MPI_SUCCESS && size > 0 ? size : 0;
}

int partner_count(MPI_Comm communicator) {
  if (!is_intercommunicator(communicator)) return communicator_size(communicator);
  int size = 0;
  return library().comm_remote_size(communicator, &size) == MPI_SUCCESS && size > 0 ? size : 0;
}

uint64_t members_hash(MPI_Comm communicator) {
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
