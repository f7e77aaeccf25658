// SPDX-License-Identifier: Apache-2.0
// Error handlers of the program run inside an MPI call, and may leave it by longjmp or an exception
// instead of coming back. No wrapper sees that, so each handler is called through a function of
// ours, before which the call is over, until the handler has come back.
#include <array>
#include <atomic>
#include <cstdarg>
#include <utility>

#include "hooks/mpi/calls.h"

namespace preserve::hooks {
namespace {

using Handler = void(void* object, int* code, ...);
constexpr size_t kMost = 64;  // different functions; those beyond are called without ours
std::atomic<Handler*> handlers[kMost];

// The arguments after the code are the library's own; it passes two at most. These are in registers
// or in the caller's frame, whether it passed them or not.
template <size_t index>
void call_handler(void* object, int* code, ...) {
  if (asking_library()) return;  // the error is that of a question of ours, not the program's
  void* more[4];
  va_list rest;
  va_start(rest, code);
  for (void*& one : more) one = va_arg(rest, void*);
  va_end(rest);
  Outside outside;
  handlers[index].load(std::memory_order_acquire)(object, code, more[0], more[1], more[2], more[3]);
  outside.came_back();
}

constexpr auto kCallers = []<size_t... index>(std::index_sequence<index...>) {
  return std::array<Handler*, kMost>{call_handler<index>...};
}
(std::make_index_sequence<kMost>());

Handler* through_ours(Handler* handler) {
  if (handler == nullptr || !listener::mpi_wanted() || !library_is_known()) return handler;
  for (Handler* caller : kCallers) {
    if (handler == caller) return handler;  // through MPI_X, another tool and PMPI_X
  }
  for (size_t i = 0; i < kMost; ++i) {
    Handler* known = nullptr;
    if (handlers[i].compare_exchange_strong(known, handler) || known == handler) return kCallers[i];
  }
  return handler;
}

}  // namespace
}  // namespace preserve::hooks

// Of the same form for every kind of object, and not all declared by every mpi.h.
#define PRESERVE_MPI_MAKES_HANDLER(name)    \
  PRESERVE_MPI_MAKES_HANDLER_AS(MPI_##name) \
  PRESERVE_MPI_MAKES_HANDLER_AS(PMPI_##name)
#define PRESERVE_MPI_MAKES_HANDLER_AS(symbol)                                                     \
  extern "C" __attribute__((visibility("default"))) int local_##symbol(                           \
      preserve::hooks::Handler* function, void* made) __asm__(#symbol);                           \
  extern "C" int local_##symbol(preserve::hooks::Handler* function, void* made) {                 \
    static const auto real = preserve::hooks::next<decltype(&local_##symbol)>(#symbol);           \
    return real == nullptr ? MPI_ERR_OTHER : real(preserve::hooks::through_ours(function), made); \
  }
PRESERVE_MPI_MAKES_HANDLER(Comm_create_errhandler)
PRESERVE_MPI_MAKES_HANDLER(Win_create_errhandler)
PRESERVE_MPI_MAKES_HANDLER(File_create_errhandler)
PRESERVE_MPI_MAKES_HANDLER(Session_create_errhandler)
PRESERVE_MPI_MAKES_HANDLER(Errhandler_create)
