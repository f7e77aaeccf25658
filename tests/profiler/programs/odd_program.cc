// SPDX-License-Identifier: Apache-2.0
// A correct program that ends, forks or is limited in the way its first argument says. Knows
// nothing of Preserve.
#include <linux/prctl.h>
#include <nvtx3/nvToolsExt.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

void range(const char* name) {
  nvtxRangePushA(name);
  nvtxRangePop();
}

void* work_on(void*) {
  usleep(50'000);
  range("after the first thread");
  return nullptr;
}

void* live_shortly(void*) {
  range("short");
  return nullptr;
}

// The first thread ends, the process goes on until the other has.
void end_first_thread() {
  range("first thread");
  std::atexit([] { std::puts("exit handler"); });
  pthread_t thread;
  pthread_create(&thread, nullptr, work_on, nullptr);
  pthread_exit(nullptr);
}

void write_no_file() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_FSIZE, &none);
  range("limited");
}

// A fork that the C library does not see.
void fork_unseen() {
  range("parent");
  const long child = syscall(SYS_fork);
  if (child == 0) {
    range("first of the child");
    range("child");
    std::exit(0);
  }
  int status = 0;
  waitpid(static_cast<pid_t>(child), &status, 0);
  range("parent after");
  if (status != 0) std::exit(1);
}

void live_and_die(int count) {
  for (int i = 0; i < count; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, live_shortly, nullptr) == 0) pthread_join(thread, nullptr);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "";
  if (std::strcmp(how, "first-thread-ends") == 0) end_first_thread();
  if (std::strcmp(how, "no-files") == 0) write_no_file();
  if (std::strcmp(how, "unseen-fork") == 0) fork_unseen();
  if (std::strcmp(how, "short-threads") == 0) live_and_die(2000);
  if (std::strcmp(how, "no-tsc") == 0) {
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
    range("without time-stamp counter");
  }
  if (std::strcmp(how, "drops-root") == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) return 1;
    range("as nobody");
  }
  if (std::strcmp(how, "plain") == 0) range("plain");
  std::puts("alive");
  return 0;
}
