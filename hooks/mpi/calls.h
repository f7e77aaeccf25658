// SPDX-License-Identifier: Apache-2.0
// What the MPI wrappers share: the two entries of each function, the description of a call, and
// non-blocking calls followed until their request completes.
#pragma once

#include "common/no_copy.h"
#include "hooks/listener.h"
#include "hooks/mpi/library.h"

// Defines MPI_<name> and PMPI_<name>; the body that follows is the wrapper, with the next function
// of that name as `real`. Both, because Fortran's bindings and other tools call PMPI_<name>: a call
// that comes through MPI_<name>, another tool and PMPI_<name> is described once, by the outermost
// of our entries.
#define PRESERVE_MPI(name, parameters, arguments)                                     \
  static int wrapped_##name(decltype(&MPI_##name) real PRESERVE_MPI_MORE parameters); \
  PRESERVE_MPI_ENTRY(MPI_##name, name, parameters, arguments)                         \
  PRESERVE_MPI_ENTRY(PMPI_##name, name, parameters, arguments)                        \
  static int wrapped_##name(                                                          \
      [[maybe_unused]] decltype(&MPI_##name) real PRESERVE_MPI_MORE parameters)
#define PRESERVE_MPI_ENTRY(symbol, name, parameters, arguments)                 \
  extern "C" __attribute__((visibility("default"))) int symbol parameters {     \
    static const auto real = preserve::hooks::next<decltype(&symbol)>(#symbol); \
    if (real == nullptr) return MPI_ERR_OTHER;                                  \
    return wrapped_##name(real PRESERVE_MPI_MORE arguments);                    \
  }
#define PRESERVE_MPI_MORE(...) __VA_OPT__(, ) __VA_ARGS__

// A blocking call, or one that leaves its last argument `request` behind, described by `facts`.
#define PRESERVE_MPI_BLOCKING(name, parameters, arguments, facts)                  \
  PRESERVE_MPI(name, parameters, arguments) {                                      \
    return preserve::hooks::blocking<preserve::mpi::function_named("MPI_" #name)>( \
        [&] { return facts; }, [&] { return real arguments; });                    \
  }
#define PRESERVE_MPI_NONBLOCKING(name, parameters, arguments, facts)                   \
  PRESERVE_MPI(name, parameters, arguments) {                                          \
    return preserve::hooks::non_blocking<preserve::mpi::function_named("MPI_" #name)>( \
        request, [&] { return facts; }, [&] { return real arguments; });               \
  }

namespace preserve::mpi {

// A blocking allreduce as the program makes it.
struct Allreduce {
  decltype(&MPI_Allreduce) real;  // the next function of that name
  const void* send;
  void* receive;
  int count;
  MPI_Datatype type;
  MPI_Op op;
  MPI_Comm comm;
  int run() const { return real(send, receive, count, type, op, comm); }
};

}  // namespace preserve::mpi

namespace preserve::hooks {

// Whether calls of this thread are reported now: wanted, a known library, and not inside another
// wrapper (an MPI library and other tools call public functions themselves).
bool listening();

// Whether this thread is inside a call that is reported.
bool inside_call();

// Marks the thread as inside a wrapper.
class Inside : NoCopy {
 public:
  Inside();
  ~Inside();
};

// The call of a thread whose end the listener waits for: one at most, since calls inside it are not
// reported.
struct Open {
  uint64_t mark = 0;
  uint32_t ranks = 0;
  mpi::Function function{};
  bool is = false;
};

// The opposite, for as long as a function of the program runs that may not come back: the call that
// it interrupts has failed, and calls that it makes itself are reported.
class Outside : NoCopy {
 public:
  Outside();
  ~Outside();
  void came_back();  // what becomes of the call is for its own result to say

 private:
  const int inside_;
  const Open interrupted_;
};

struct Facts {
  int64_t bytes = -1;
  MPI_Datatype type{};      // null: none
  MPI_Comm communicator{};  // null: none
  int32_t peer = -1;
};
inline Facts message(int64_t count, MPI_Datatype type, MPI_Comm communicator, int32_t peer = -1) {
  return {message_bytes(count, type), type, communicator, peer};
}
// Nothing is moved, and no other argument means anything.
inline Facts no_message(MPI_Comm communicator) {
  return {0, nullptr, communicator, -1};
}

// Reports a call from its begin to its end.
class Report {
 public:
  Report(mpi::Function function,
         const Facts& facts);      // names the communicator, counts the collective
  void ended(int result);          // a blocking call has returned
  void left(MPI_Request request);  // a call left this request
  uint64_t mark() const { return mark_; }

 private:
  Inside inside_;
  mpi::Call call_;
  uint64_t mark_;
};

// `facts` are read before the call, and only when somebody listens.
template <mpi::Function function, typename ReadFacts, typename Real>
int blocking(ReadFacts facts, Real real) {
  static_assert(function < mpi::kFunctionCount);
  if (!listening()) return real();
  Report report(function, facts());
  const int result = real();
  report.ended(result);
  return result;
}
template <mpi::Function function, typename ReadFacts, typename Real>
int non_blocking(MPI_Request* request, ReadFacts facts, Real real) {
  static_assert(function < mpi::kFunctionCount);
  if (!listening()) return real();
  Report report(function, facts());
  const int result = real();
  if (result == MPI_SUCCESS && request != nullptr) {
    report.left(handle_at(request));
  } else {
    report.ended(result);
  }
  return result;
}

// Reports a Wait or Test. Remembers the handles that it is about to overwrite, then ends those that
// completed.
class Completion : NoCopy {
 public:
  Completion(mpi::Function function, int count, const MPI_Request* requests);
  ~Completion();
  void completed(int index);
  void completed_all();
  void ended(mpi::Outcome outcome);

 private:
  bool active_ = false;
  mpi::Call call_;
  uint64_t mark_ = 0;
  int count_ = 0;
  uint64_t newest_ = 0;  // of the requests when it began
  MPI_Request* handles_ = nullptr;
  MPI_Request few_[32];  // most programs; more come from the heap
};

// The program gives a request up (MPI_Request_free, MPI_Cancel): whatever becomes of it, its end
// will not be seen. Before the call, after which the library may hand out the handle again.
void request_given_up(const MPI_Request* request);

// Around a call that makes a communicator: the origin of its number is taken before, on every rank.
class Making {
 public:
  explicit Making(MPI_Comm parent);  // a call of all ranks of `parent`
  enum Caller { group };
  Making(Caller, uint64_t salt)
      : salt_(salt) {}  // only the members call, and `salt` is equal on them
  void made(int result, const MPI_Comm* communicator);
  void copied(int result,
              const MPI_Comm* communicator);  // has the parent's members; not complete yet

 private:
  void add(MPI_Comm communicator, uint64_t members, uint32_t ranks);

  const bool listening_ = listening();
  Inside inside_;
  uint64_t origin_ = 0, salt_ = 0, members_ = 0;
  uint32_t ranks_ = 0;
};
// What all members know of `parent`, as a salt.
uint64_t number_of(MPI_Comm parent);
void communicator_freed(const MPI_Comm* communicator);

}  // namespace preserve::hooks
