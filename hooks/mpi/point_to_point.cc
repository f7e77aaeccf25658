// SPDX-License-Identifier: Apache-2.0
// Wrappers of the point-to-point calls, and of the Wait and Test families through which
// non-blocking calls complete. Not followed to their end: persistent requests, and requests given
// to MPI_Request_free or MPI_Cancel.
#include "hooks/mpi/calls.h"

using namespace preserve;
using namespace preserve::hooks;

namespace {

Facts to_peer(int64_t count, MPI_Datatype type, MPI_Comm comm, int peer) {
  return is_null_process(peer) ? no_message(comm) : message(count, type, comm, peer);
}

}  // namespace

#define PRESERVE_MPI_SENDS(name)                                                                  \
  PRESERVE_MPI_BLOCKING(                                                                          \
      name, (const void* buffer, int count, MPI_Datatype type, int peer, int tag, MPI_Comm comm), \
      (buffer, count, type, peer, tag, comm), to_peer(count, type, comm, peer))
#define PRESERVE_MPI_TRANSFERS(name, pointer)                                                \
  PRESERVE_MPI_NONBLOCKING(name,                                                             \
                           (pointer buffer, int count, MPI_Datatype type, int peer, int tag, \
                            MPI_Comm comm, MPI_Request* request),                            \
                           (buffer, count, type, peer, tag, comm, request),                  \
                           to_peer(count, type, comm, peer))
PRESERVE_MPI_SENDS(Send)
PRESERVE_MPI_SENDS(Ssend)
PRESERVE_MPI_SENDS(Bsend)
PRESERVE_MPI_SENDS(Rsend)
PRESERVE_MPI_TRANSFERS(Isend, const void*)
PRESERVE_MPI_TRANSFERS(Issend, const void*)
PRESERVE_MPI_TRANSFERS(Ibsend, const void*)
PRESERVE_MPI_TRANSFERS(Irsend, const void*)
PRESERVE_MPI_TRANSFERS(Irecv, void*)

PRESERVE_MPI_BLOCKING(Recv,
                      (void* buffer, int count, MPI_Datatype type, int peer, int tag, MPI_Comm comm,
                       MPI_Status* status),
                      (buffer, count, type, peer, tag, comm, status),
                      to_peer(count, type, comm, peer))
PRESERVE_MPI_BLOCKING(Sendrecv,
                      (const void* send, int send_count, MPI_Datatype send_type, int destination,
                       int send_tag, void* receive, int receive_count, MPI_Datatype receive_type,
                       int source, int receive_tag, MPI_Comm comm, MPI_Status* status),
                      (send, send_count, send_type, destination, send_tag, receive, receive_count,
                       receive_type, source, receive_tag, comm, status),
                      to_peer(send_count, send_type, comm, destination))
PRESERVE_MPI_BLOCKING(Sendrecv_replace,
                      (void* buffer, int count, MPI_Datatype type, int destination, int send_tag,
                       int source, int receive_tag, MPI_Comm comm, MPI_Status* status),
                      (buffer, count, type, destination, send_tag, source, receive_tag, comm,
                       status),
                      to_peer(count, type, comm, destination))

// --- completion: a Wait is an operator, a Test only when it found something ---

PRESERVE_MPI(Wait, (MPI_Request * request, MPI_Status* status), (request, status)) {
  Completion completion(mpi::kWait, 1, request);
  const int result = real(request, status);
  completion.completed_all();
  completion.ended(mpi::Outcome::done);
  return result;
}

PRESERVE_MPI(Waitall, (int count, MPI_Request requests[], MPI_Status statuses[]),
             (count, requests, statuses)) {
  Completion completion(mpi::kWaitall, count, requests);
  const int result = real(count, requests, statuses);
  completion.completed_all();
  completion.ended(mpi::Outcome::done);
  return result;
}

PRESERVE_MPI(Waitany, (int count, MPI_Request requests[], int* index, MPI_Status* status),
             (count, requests, index, status)) {
  Completion completion(mpi::kWaitany, count, requests);
  const int result = real(count, requests, index, status);
  if (result == MPI_SUCCESS) completion.completed(*index);  // MPI_UNDEFINED is negative
  completion.ended(mpi::Outcome::done);
  return result;
}

PRESERVE_MPI(Waitsome,
             (int count, MPI_Request requests[], int* done, int indices[], MPI_Status statuses[]),
             (count, requests, done, indices, statuses)) {
  Completion completion(mpi::kWaitsome, count, requests);
  const int result = real(count, requests, done, indices, statuses);
  for (int i = 0; result == MPI_SUCCESS && i < *done; ++i) completion.completed(indices[i]);
  completion.ended(mpi::Outcome::done);
  return result;
}

PRESERVE_MPI(Test, (MPI_Request * request, int* flag, MPI_Status* status),
             (request, flag, status)) {
  Completion completion(mpi::kTest, 1, request);
  const int result = real(request, flag, status);
  const bool found = result == MPI_SUCCESS && *flag != 0;
  if (found) completion.completed_all();
  completion.ended(found ? mpi::Outcome::done : mpi::Outcome::nothing_complete);
  return result;
}

PRESERVE_MPI(Testall, (int count, MPI_Request requests[], int* flag, MPI_Status statuses[]),
             (count, requests, flag, statuses)) {
  Completion completion(mpi::kTestall, count, requests);
  const int result = real(count, requests, flag, statuses);
  const bool found = result == MPI_SUCCESS && *flag != 0;
  if (found) completion.completed_all();
  completion.ended(found ? mpi::Outcome::done : mpi::Outcome::nothing_complete);
  return result;
}

PRESERVE_MPI(Testany,
             (int count, MPI_Request requests[], int* index, int* flag, MPI_Status* status),
             (count, requests, index, flag, status)) {
  Completion completion(mpi::kTestany, count, requests);
  const int result = real(count, requests, index, flag, status);
  const bool found = result == MPI_SUCCESS && *flag != 0;
  if (found) completion.completed(*index);
  completion.ended(found ? mpi::Outcome::done : mpi::Outcome::nothing_complete);
  return result;
}

PRESERVE_MPI(Testsome,
             (int count, MPI_Request requests[], int* done, int indices[], MPI_Status statuses[]),
             (count, requests, done, indices, statuses)) {
  Completion completion(mpi::kTestsome, count, requests);
  const int result = real(count, requests, done, indices, statuses);
  const bool found = result == MPI_SUCCESS && *done > 0;
  for (int i = 0; found && i < *done; ++i) completion.completed(indices[i]);
  completion.ended(found ? mpi::Outcome::done : mpi::Outcome::nothing_complete);
  return result;
}

PRESERVE_MPI(Request_free, (MPI_Request * request), (request)) {
  request_given_up(request);
  return real(request);
}

PRESERVE_MPI(Cancel, (MPI_Request * request), (request)) {
  request_given_up(request);
  return real(request);
}
