// SPDX-License-Identifier: Apache-2.0
// Wrappers of what begins and ends: the library itself and its communicators.
#include "hooks/mpi/calls.h"

using namespace preserve;
using namespace preserve::collector;

PRESERVE_EXPORT int MPI_Init(int* argc, char*** argv) {
  static const auto call = real<decltype(&PMPI_Init)>("PMPI_Init");
  const int result = blocking([] { return Call{spool::kInit}; }, [&] { return call(argc, argv); });
  if (result == MPI_SUCCESS) record_rank();
  return result;
}

PRESERVE_EXPORT int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
  static const auto call = real<decltype(&PMPI_Init_thread)>("PMPI_Init_thread");
  const int result = blocking([] { return Call{spool::kInitThread}; },
                              [&] { return call(argc, argv, required, provided); });
  if (result == MPI_SUCCESS) record_rank();
  return result;
}

// Launchers may kill what is left once every rank has finalised: have everything on disk before.
PRESERVE_EXPORT int MPI_Finalize() {
  static const auto call = real<decltype(&PMPI_Finalize)>("PMPI_Finalize");
  flush_now();
  return blocking([] { return Call{spool::kFinalize}; }, [&] { return call(); });
}

PRESERVE_EXPORT int MPI_Abort(MPI_Comm comm, int code) {
  static const auto call = real<decltype(&PMPI_Abort)>("PMPI_Abort");
  flush_now();
  return call(comm, code);
}

PRESERVE_EXPORT int MPI_Comm_dup(MPI_Comm comm, MPI_Comm* created) {
  static const auto call = real<decltype(&PMPI_Comm_dup)>("PMPI_Comm_dup");
  const int result = call(comm, created);
  if (result == MPI_SUCCESS) communicator_created(*created);
  return result;
}

PRESERVE_EXPORT int MPI_Comm_dup_with_info(MPI_Comm comm, MPI_Info info, MPI_Comm* created) {
  static const auto call = real<decltype(&PMPI_Comm_dup_with_info)>("PMPI_Comm_dup_with_info");
  const int result = call(comm, info, created);
  if (result == MPI_SUCCESS) communicator_created(*created);
  return result;
}

PRESERVE_EXPORT int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm* created) {
  static const auto call = real<decltype(&PMPI_Comm_split)>("PMPI_Comm_split");
  const int result = call(comm, color, key, created);
  if (result == MPI_SUCCESS) communicator_created(*created);
  return result;
}

PRESERVE_EXPORT int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info,
                                        MPI_Comm* created) {
  static const auto call = real<decltype(&PMPI_Comm_split_type)>("PMPI_Comm_split_type");
  const int result = call(comm, type, key, info, created);
  if (result == MPI_SUCCESS) communicator_created(*created);
  return result;
}

PRESERVE_EXPORT int MPI_Comm_create(MPI_Comm comm, MPI_Group group, MPI_Comm* created) {
  static const auto call = real<decltype(&PMPI_Comm_create)>("PMPI_Comm_create");
  const int result = call(comm, group, created);
  if (result == MPI_SUCCESS) communicator_created(*created);
  return result;
}

PRESERVE_EXPORT int MPI_Comm_create_group(MPI_Comm comm, MPI_Group group, int tag,
                                          MPI_Comm* created) {
  static const auto call = real<decltype(&PMPI_Comm_create_group)>("PMPI_Comm_create_group");
  const int result = call(comm, group, tag, created);
  if (result == MPI_SUCCESS) communicator_created(*created);
  return result;
}

PRESERVE_EXPORT int MPI_Cart_create(MPI_Comm comm, int dimensions, const int sizes[],
                                    const int periods[], int reorder, MPI_Comm* created) {
  static const auto call = real<decltype(&PMPI_Cart_create)>("PMPI_Cart_create");
  const int result = call(comm, dimensions, sizes, periods, reorder, created);
  if (result == MPI_SUCCESS) communicator_created(*created);
  return result;
}

PRESERVE_EXPORT int MPI_Cart_sub(MPI_Comm comm, const int keep[], MPI_Comm* created) {
  static const auto call = real<decltype(&PMPI_Cart_sub)>("PMPI_Cart_sub");
  const int result = call(comm, keep, created);
  if (result == MPI_SUCCESS) communicator_created(*created);
  return result;
}

PRESERVE_EXPORT int MPI_Comm_free(MPI_Comm* comm) {
  static const auto call = real<decltype(&PMPI_Comm_free)>("PMPI_Comm_free");
  if (comm != nullptr) communicator_freed(*comm);
  return call(comm);
}

PRESERVE_EXPORT int MPI_Comm_disconnect(MPI_Comm* comm) {
  static const auto call = real<decltype(&PMPI_Comm_disconnect)>("PMPI_Comm_disconnect");
  if (comm != nullptr) communicator_freed(*comm);
  return call(comm);
}
