// SPDX-License-Identifier: Apache-2.0
// SIGSEGV belongs to us and to the program: its own handler sees every fault that is none of ours,
// and it may set and read it as without us. No thread may block the signal: the kernel ends a
// process whose fault finds it blocked.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "hooks/next_of.h"
#include "hooks/unnoticed.h"
#include "profiler/collector/touch/pages.h"

namespace preserve::collector::touch {
namespace {

using Sigmask = int(int, const sigset_t*, sigset_t*);

int real_sigaction(int number, const struct sigaction* action, struct sigaction* old) {
  using Sigaction = int(int, const struct sigaction*, struct sigaction*);
  return hooks::next_of<"sigaction", Sigaction>()(number, action, old);
}

std::atomic<bool> installed{false};
struct sigaction programs = {};  // its own handler of SIGSEGV, once ours is installed

bool is_function(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 ||
         (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
}

// As the kernel would have called it.
void call_programs(int number, siginfo_t* info, void* context) {
  const struct sigaction action = programs;
  if (!is_function(action)) {
    const bool sent = info->si_code <= 0;  // by a process, not by a fault
    if (sent && action.sa_handler == SIG_IGN) return;
    struct sigaction end {};
    end.sa_handler = SIG_DFL;
    (void)real_sigaction(number, &end, nullptr);
    if (sent) (void)::kill(::getpid(), number);
    return;  // a fault comes again
  }
  sigset_t blocked = action.sa_mask;
  if ((action.sa_flags & SA_NODEFER) == 0) sigaddset(&blocked, number);
  (void)hooks::next_of<"pthread_sigmask", Sigmask>()(SIG_BLOCK, &blocked, nullptr);
  if ((action.sa_flags & SA_RESETHAND) != 0) programs.sa_handler = SIG_DFL;
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(number, info, context);
  } else {
    action.sa_handler(number);
  }
}

void on_fault(int number, siginfo_t* info, void* context) {
  {
    const KeepErrno kept;
    if (resolve(*info, context)) return;
  }
  call_programs(number, info, context);
}

sigset_t without_faults(const sigset_t& set) {
  sigset_t allowed = set;
  sigdelset(&allowed, SIGSEGV);
  return allowed;
}

int mask(Sigmask* real, int how, const sigset_t* set, sigset_t* old) {
  if (set == nullptr || how == SIG_UNBLOCK) return real(how, set, old);
  const sigset_t allowed = without_faults(*set);
  return real(how, &allowed, old);
}

}  // namespace

void install_handler() {
  struct sigaction own {};
  own.sa_sigaction = on_fault;
  own.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
  sigemptyset(&own.sa_mask);
  if (real_sigaction(SIGSEGV, &own, &programs) == 0) installed.store(true);
}

}  // namespace preserve::collector::touch

using namespace preserve::collector::touch;

#define PRESERVE_VISIBLE extern "C" __attribute__((visibility("default")))

PRESERVE_VISIBLE int sigaction(int number, const struct sigaction* action,
                               struct sigaction* old) noexcept {
  if (number == SIGSEGV && installed.load()) {
    const struct sigaction before = programs;
    if (action != nullptr) programs = *action;
    if (old != nullptr) *old = before;
    return 0;
  }
  if (action == nullptr) return real_sigaction(number, action, old);
  struct sigaction allowed = *action;
  allowed.sa_mask = without_faults(action->sa_mask);
  return real_sigaction(number, &allowed, old);
}

PRESERVE_VISIBLE sighandler_t signal(int number, sighandler_t handler) noexcept {
  if (number != SIGSEGV || !installed.load()) {
    return preserve::hooks::next_of<"signal", sighandler_t(int, sighandler_t)>()(number, handler);
  }
  const sighandler_t before = programs.sa_handler;
  programs = {};
  programs.sa_handler = handler;
  programs.sa_flags = SA_RESTART;
  return before;
}

PRESERVE_VISIBLE int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  return mask(preserve::hooks::next_of<"pthread_sigmask", Sigmask>(), how, set, old);
}

PRESERVE_VISIBLE int sigprocmask(int how, const sigset_t* set, sigset_t* old) noexcept {
  return mask(preserve::hooks::next_of<"sigprocmask", Sigmask>(), how, set, old);
}
