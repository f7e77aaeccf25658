// SPDX-License-Identifier: Apache-2.0
// Wrappers of the point-to-point calls, and of the Wait and Test families through which
// non-blocking calls complete. Not followed to their end: persistent requests, and requests given
// to MPI_Request_free or MPI_Cancel.
#include "hooks/mpi/calls.h"

using namespace preserve;
using namespace preserve::collector;

PRESERVE_EXPORT int MPI_Send(const void* buffer, int count, MPI_Datatype type, int peer, int tag,
                             MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Send)>("PMPI_Send");
  const auto describe = [&] {
    return Call{spool::kSend, message_bytes(count, type), type, comm, peer};
  };
  return blocking(describe, [&] { return call(buffer, count, type, peer, tag, comm); });
}

PRESERVE_EXPORT int MPI_Ssend(const void* buffer, int count, MPI_Datatype type, int peer, int tag,
                              MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Ssend)>("PMPI_Ssend");
  const auto describe = [&] {
    return Call{spool::kSsend, message_bytes(count, type), type, comm, peer};
  };
  return blocking(describe, [&] { return call(buffer, count, type, peer, tag, comm); });
}

PRESERVE_EXPORT int MPI_Bsend(const void* buffer, int count, MPI_Datatype type, int peer, int tag,
                              MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Bsend)>("PMPI_Bsend");
  const auto describe = [&] {
    return Call{spool::kBsend, message_bytes(count, type), type, comm, peer};
  };
  return blocking(describe, [&] { return call(buffer, count, type, peer, tag, comm); });
}

PRESERVE_EXPORT int MPI_Rsend(const void* buffer, int count, MPI_Datatype type, int peer, int tag,
                              MPI_Comm comm) {
  static const auto call = real<decltype(&PMPI_Rsend)>("PMPI_Rsend");
  const auto describe = [&] {
    return Call{spool::kRsend, message_bytes(count, type), type, comm, peer};
  };
  return blocking(describe, [&] { return call(buffer, count, type, peer, tag, comm); });
}

PRESERVE_EXPORT int MPI_Isend(const void* buffer, int count, MPI_Datatype type, int peer, int tag,
                              MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Isend)>("PMPI_Isend");
  const auto describe = [&] {
    return Call{spool::kIsend, message_bytes(count, type), type, comm, peer};
  };
  return non_blocking(request, describe,
                      [&] { return call(buffer, count, type, peer, tag, comm, request); });
}

PRESERVE_EXPORT int MPI_Issend(const void* buffer, int count, MPI_Datatype type, int peer, int tag,
                               MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Issend)>("PMPI_Issend");
  const auto describe = [&] {
    return Call{spool::kIssend, message_bytes(count, type), type, comm, peer};
  };
  return non_blocking(request, describe,
                      [&] { return call(buffer, count, type, peer, tag, comm, request); });
}

PRESERVE_EXPORT int MPI_Ibsend(const void* buffer, int count, MPI_Datatype type, int peer, int tag,
                               MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Ibsend)>("PMPI_Ibsend");
  const auto describe = [&] {
    return Call{spool::kIbsend, message_bytes(count, type), type, comm, peer};
  };
  return non_blocking(request, describe,
                      [&] { return call(buffer, count, type, peer, tag, comm, request); });
}

PRESERVE_EXPORT int MPI_Irsend(const void* buffer, int count, MPI_Datatype type, int peer, int tag,
                               MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Irsend)>("PMPI_Irsend");
  const auto describe = [&] {
    return Call{spool::kIrsend, message_bytes(count, type), type, comm, peer};
  };
  return non_blocking(request, describe,
                      [&] { return call(buffer, count, type, peer, tag, comm, request); });
}

PRESERVE_EXPORT int MPI_Irecv(void* buffer, int count, MPI_Datatype type, int peer, int tag,
                              MPI_Comm comm, MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Irecv)>("PMPI_Irecv");
  const auto describe = [&] {
    return Call{spool::kIrecv, message_bytes(count, type), type, comm, peer};
  };
  return non_blocking(request, describe,
                      [&] { return call(buffer, count, type, peer, tag, comm, request); });
}

PRESERVE_EXPORT int MPI_Recv(void* buffer, int count, MPI_Datatype type, int peer, int tag,
                             MPI_Comm comm, MPI_Status* status) {
  static const auto call = real<decltype(&PMPI_Recv)>("PMPI_Recv");
  const auto describe = [&] {
    return Call{spool::kRecv, message_bytes(count, type), type, comm, peer};
  };
  return blocking(describe, [&] { return call(buffer, count, type, peer, tag, comm, status); });
}

PRESERVE_EXPORT int MPI_Sendrecv(const void* send, int send_count, MPI_Datatype send_type,
                                 int destination, int send_tag, void* receive, int receive_count,
                                 MPI_Datatype receive_type, int source, int receive_tag,
                                 MPI_Comm comm, MPI_Status* status) {
  static const auto call = real<decltype(&PMPI_Sendrecv)>("PMPI_Sendrecv");
  const auto describe = [&] {
    return Call{spool::kSendrecv, message_bytes(send_count, send_type), send_type, comm,
                destination};
  };
  return blocking(describe, [&] {
    return call(send, send_count, send_type, destination, send_tag, receive, receive_count,
                receive_type, source, receive_tag, comm, status);
  });
}

PRESERVE_EXPORT int MPI_Sendrecv_replace(void* buffer, int count, MPI_Datatype type,
                                         int destination, int send_tag, int source, int receive_tag,
                                         MPI_Comm comm, MPI_Status* status) {
  static const auto call = real<decltype(&PMPI_Sendrecv_replace)>("PMPI_Sendrecv_replace");
  const auto describe = [&] {
    return Call{spool::kSendrecvReplace, message_bytes(count, type), type, comm, destination};
  };
  return blocking(describe, [&] {
    return call(buffer, count, type, destination, send_tag, source, receive_tag, comm, status);
  });
}

// --- completion: a Wait is an operator, a Test only when it found something ---

PRESERVE_EXPORT int MPI_Wait(MPI_Request* request, MPI_Status* status) {
  static const auto call = real<decltype(&PMPI_Wait)>("PMPI_Wait");
  Completion completion(spool::kWait, 1, request);
  const int result = call(request, status);
  completion.completed(0);
  completion.finish();
  return result;
}

PRESERVE_EXPORT int MPI_Waitall(int count, MPI_Request requests[], MPI_Status statuses[]) {
  static const auto call = real<decltype(&PMPI_Waitall)>("PMPI_Waitall");
  Completion completion(spool::kWaitall, count, requests);
  const int result = call(count, requests, statuses);
  completion.completed_all();
  completion.finish();
  return result;
}

PRESERVE_EXPORT int MPI_Waitany(int count, MPI_Request requests[], int* index, MPI_Status* status) {
  static const auto call = real<decltype(&PMPI_Waitany)>("PMPI_Waitany");
  Completion completion(spool::kWaitany, count, requests);
  const int result = call(count, requests, index, status);
  if (result == MPI_SUCCESS) completion.completed(*index);  // MPI_UNDEFINED is negative
  completion.finish();
  return result;
}

PRESERVE_EXPORT int MPI_Waitsome(int count, MPI_Request requests[], int* done, int indices[],
                                 MPI_Status statuses[]) {
  static const auto call = real<decltype(&PMPI_Waitsome)>("PMPI_Waitsome");
  Completion completion(spool::kWaitsome, count, requests);
  const int result = call(count, requests, done, indices, statuses);
  for (int i = 0; result == MPI_SUCCESS && i < *done; ++i) completion.completed(indices[i]);
  completion.finish();
  return result;
}

PRESERVE_EXPORT int MPI_Test(MPI_Request* request, int* flag, MPI_Status* status) {
  static const auto call = real<decltype(&PMPI_Test)>("PMPI_Test");
  Completion completion(spool::kTest, 1, request);
  const int result = call(request, flag, status);
  if (result == MPI_SUCCESS && *flag != 0) {
    completion.completed(0);
    completion.finish();
  }
  return result;
}

PRESERVE_EXPORT int MPI_Testall(int count, MPI_Request requests[], int* flag,
                                MPI_Status statuses[]) {
  static const auto call = real<decltype(&PMPI_Testall)>("PMPI_Testall");
  Completion completion(spool::kTestall, count, requests);
  const int result = call(count, requests, flag, statuses);
  if (result == MPI_SUCCESS && *flag != 0) {
    completion.completed_all();
    completion.finish();
  }
  return result;
}

PRESERVE_EXPORT int MPI_Testany(int count, MPI_Request requests[], int* index, int* flag,
                                MPI_Status* status) {
  static const auto call = real<decltype(&PMPI_Testany)>("PMPI_Testany");
  Completion completion(spool::kTestany, count, requests);
  const int result = call(count, requests, index, flag, status);
  if (result == MPI_SUCCESS && *flag != 0) {
    completion.completed(*index);
    completion.finish();
  }
  return result;
}

PRESERVE_EXPORT int MPI_Testsome(int count, MPI_Request requests[], int* done, int indices[],
                                 MPI_Status statuses[]) {
  static const auto call = real<decltype(&PMPI_Testsome)>("PMPI_Testsome");
  Completion completion(spool::kTestsome, count, requests);
  const int result = call(count, requests, done, indices, statuses);
  if (result == MPI_SUCCESS && *done > 0) {
    for (int i = 0; i < *done; ++i) completion.completed(indices[i]);
    completion.finish();
  }
  return result;
}

PRESERVE_EXPORT int MPI_Request_free(MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Request_free)>("PMPI_Request_free");
  request_given_up(request);
  return call(request);
}

PRESERVE_EXPORT int MPI_Cancel(MPI_Request* request) {
  static const auto call = real<decltype(&PMPI_Cancel)>("PMPI_Cancel");
  request_given_up(request);
  return call(request);
}
