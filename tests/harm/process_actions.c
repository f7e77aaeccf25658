// SPDX-License-Identifier: Apache-2.0
// Actions on processes, threads and signals, and every way to end.
#include <errno.h>
#include <nvtx3/nvToolsExt.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "script.h"

extern char** environ;

static void use_nvtx_twice(void) {
  use_nvtx("");
  use_nvtx("string");
}

// ---------------------------------------------------------------- processes

static void report_child(const char* how, pid_t child) {
  int status = 0;
  if (child < 0) {
    say("%s: %s", how, strerror(errno));
  } else if (waitpid(child, &status, 0) != child) {
    say("%s: wait: %s", how, strerror(errno));
  } else if (WIFSIGNALED(status)) {
    say("%s: signal %d", how, WTERMSIG(status));
  } else {
    say("%s: code %d", how, WEXITSTATUS(status));
  }
}

static void run_child(struct Block block) {
  run_block(block);
  exit(0);
}

// In both processes of a fork.
static void go_on(const char* how, pid_t child, struct Block block) {
  if (child == 0) run_child(block);
  report_child(how, child);
}

static void do_fork(const char* argument, struct Block block) {
  go_on("fork", fork(), block);
}

// fork without the handlers of pthread_atfork
static void do_plain_fork(const char* argument, struct Block block) {
  go_on("_Fork", _Fork(), block);
}

// Nothing of the C library notices.
static void do_clone(const char* argument, struct Block block) {
  go_on("clone", (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), block);
}

static struct Block shared_memory_block;
static int run_sharing_memory(void* unused) {
  (void)unused;
  run_block(shared_memory_block);
  _exit(0);
}
// A child in the memory of its parent, which waits for it, as vfork makes one.
static void do_vfork(const char* argument, struct Block block) {
  static char stack[64 << 10] __attribute__((aligned(16)));
  shared_memory_block = block;
  report_child("vfork", clone(run_sharing_memory, stack + sizeof(stack),
                              CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
}

static void do_forks(const char* argument, struct Block block) {
  for (int i = atoi(argument); i > 0; --i) do_fork("", block);
}

// The child outlives its parent.
static void do_orphan(const char* argument, struct Block block) {
  if (fork() != 0) return;
  sleep_ms(40);
  run_child(block);
}

static void do_daemon(const char* argument, struct Block block) {
  if (fork() != 0) _exit(0);
  setsid();
  if (fork() != 0) _exit(0);
  (void)!chdir("/");
  sleep_ms(40);
  run_child(block);
}

static char** arguments_of(struct Block block) {
  const size_t count = (size_t)(block.end - block.begin);
  char** arguments = calloc(count + 2, sizeof(char*));
  arguments[0] = "scripted_program";
  memcpy(arguments + 1, block.begin, count * sizeof(char*));
  return arguments;
}

static void do_exec(const char* argument, struct Block block) {
  char* const nothing[] = {NULL};
  const int clean = strcmp(argument, "clean") == 0;
  execve("/proc/self/exe", arguments_of(block), clean ? nothing : environ);
  say("exec: %s", strerror(errno));
}

static void do_exec_missing(const char* argument, struct Block block) {
  execl("/nonexistent/program", "program", (char*)NULL);
  say("exec: %s", strerror(errno));
}

static void do_spawn(const char* argument, struct Block block) {
  pid_t child = -1;
  errno = posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments_of(block), environ);
  report_child("spawn", child);
}

static void do_system(const char* argument, struct Block block) {
  say("system: %d", system("exit 3"));
}

// No child but its own.
static void do_children(const char* argument, struct Block block) {
  const pid_t child = waitpid(-1, NULL, WNOHANG);
  say("children: %s", child < 0 ? strerror(errno) : "some");
}

// ---------------------------------------------------------------- threads

static void* run_thread(void* block) {
  run_block(*(struct Block*)block);
  return NULL;
}
static void* run_late_thread(void* block) {
  sleep_ms(40);
  return run_thread(block);
}
static void* run_thread_for_ever(void* block) {
  while (1) run_thread(block);
  return NULL;
}

// The stack is the default one when stack_bytes is 0. Returns whether the thread was started.
static int start_thread(pthread_t* thread, void* (*entry)(void*), struct Block block,
                        size_t stack_bytes) {
  struct Block* copy = malloc(sizeof(block));
  *copy = block;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (stack_bytes != 0) pthread_attr_setstacksize(&attributes, stack_bytes);
  const int error = pthread_create(thread, &attributes, entry, copy);
  pthread_attr_destroy(&attributes);
  if (error != 0) say("thread: %s", strerror(error));
  return error == 0;
}

static void join_new_thread(struct Block block, size_t stack_bytes) {
  pthread_t thread;
  if (start_thread(&thread, run_thread, block, stack_bytes)) pthread_join(thread, NULL);
}
static void do_thread(const char* argument, struct Block block) {
  join_new_thread(block, 0);
}
static void do_small_thread(const char* argument, struct Block block) {
  join_new_thread(block, 16 << 10);  // PTHREAD_STACK_MIN
}
static void do_threads(const char* argument, struct Block block) {
  for (int i = atoi(argument); i > 0; --i) join_new_thread(block, 0);
}
static void do_detached(const char* argument, struct Block block) {
  pthread_t thread;
  const int busy = strcmp(argument, "busy") == 0;
  if (start_thread(&thread, busy ? run_thread_for_ever : run_late_thread, block, 0)) {
    pthread_detach(thread);
  }
}
static void do_cancel(const char* argument, struct Block block) {
  static char* words[] = {"nvtx", "nvtx:string", "sleep:1"};
  pthread_t thread;
  void* result = NULL;
  if (!start_thread(&thread, run_thread_for_ever, (struct Block){words, words + 3}, 0)) return;
  sleep_ms(5);
  pthread_cancel(thread);
  pthread_join(thread, &result);
  say("cancel: %s", result == PTHREAD_CANCELED ? "done" : "not done");
}

// Threads that somebody else starts, also a profiler, get this stack.
static void do_default_stack(const char* argument, struct Block block) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, (size_t)atol(argument));
  say("default stack: %s", strerror(pthread_setattr_default_np(&attributes)));
  pthread_attr_destroy(&attributes);
}

// Uses NVTX after the C library has ended everything else of a thread, several times.
static pthread_key_t at_thread_end;
static void on_thread_end(void* times) {
  use_nvtx_twice();
  if ((uintptr_t)times > 1) pthread_setspecific(at_thread_end, (void*)((uintptr_t)times - 1));
}
static void do_thread_end(const char* argument, struct Block block) {
  pthread_key_create(&at_thread_end, on_thread_end);
  pthread_setspecific(at_thread_end, (void*)3);
}

// A stack that the thread library does not know of.
static ucontext_t here, there;
static struct Block coroutine_block;
static void run_coroutine(void) {
  run_block(coroutine_block);
  swapcontext(&there, &here);
  run_block(coroutine_block);
}
static void do_coroutine(const char* argument, struct Block block) {
  static char stack[32 << 10];
  coroutine_block = block;
  getcontext(&there);
  there.uc_stack.ss_sp = stack;
  there.uc_stack.ss_size = sizeof(stack);
  there.uc_link = &here;
  makecontext(&there, run_coroutine, 0);
  swapcontext(&here, &there);
  use_nvtx("");
  swapcontext(&here, &there);
  say("coroutine: done");
}

// ---------------------------------------------------------------- signals

// Stopped as by Ctrl-Z, and continued by a child.
static void do_stop(const char* argument, struct Block block) {
  int goes_on[2];
  if (pipe(goes_on) != 0) return say("stop: no pipe");
  const pid_t stopped = getpid(), child = fork();
  if (child == 0) {  // as often as it takes: when it stops nobody knows
    close(goes_on[1]);
    struct pollfd end = {goes_on[0], POLLIN, 0};
    while (poll(&end, 1, 10) == 0) kill(stopped, SIGCONT);
    _exit(0);
  }
  close(goes_on[0]);
  if (child > 0) raise(SIGSTOP);
  close(goes_on[1]);
  report_child("stop", child);
}

enum { kTimerHits = 20, kTimerUs = 500 };
static volatile sig_atomic_t hits;
static const char* in_handler;
static sigjmp_buf after_loop;

static void on_signal(int signal) {
  (void)signal;
  ++hits;
  if (strcmp(in_handler, "fork") == 0) {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, NULL, 0);
  } else if (strcmp(in_handler, "exit") == 0) {
    if (hits == kTimerHits) _exit(5);
  } else if (strcmp(in_handler, "jump") == 0) {
    siglongjmp(after_loop, 1);
  } else {
    use_nvtx_twice();
  }
}

static void handle(int signal, int flags) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
  sigaction(signal, &action, NULL);
}

static void set_timer(int microseconds) {
  const struct itimerval period = {{0, microseconds}, {0, microseconds}};
  setitimer(ITIMER_REAL, &period, NULL);
}

// A timer interrupts NVTX calls; the handler makes NVTX calls too, or does what the argument says:
// fork, exit, jump.
static void do_timer(const char* argument, struct Block block) {
  in_handler = argument;
  hits = 0;
  nvtxInitialize(NULL);  // NVTX's header waits for it without end, also in what interrupts it
  handle(SIGALRM, SA_RESTART);
  sigset_t alarm_signal;  // which the script may have blocked
  sigemptyset(&alarm_signal);
  sigaddset(&alarm_signal, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarm_signal, NULL);
  sigsetjmp(after_loop, 1);
  set_timer(kTimerUs);
  while (hits < kTimerHits) {
    use_nvtx_twice();
  }
  set_timer(0);
  signal(SIGALRM, SIG_IGN);
  say("timer: done");
}

static void do_handler(const char* argument, struct Block block) {
  static char small_stack[16 << 10];
  const int apart = strcmp(argument, "stack") == 0;
  if (apart) sigaltstack(&(stack_t){.ss_sp = small_stack, .ss_size = sizeof(small_stack)}, NULL);
  in_handler = "";
  handle(SIGUSR1, apart ? SA_ONSTACK : 0);
  raise(SIGUSR1);
}

static void on_file_size(int signal) {
  (void)signal;
  static const char text[] = "SIGXFSZ\n";
  (void)!write(2, text, sizeof(text) - 1);
}
static void do_catch_file_size(const char* argument, struct Block block) {
  signal(SIGXFSZ, on_file_size);
}

static void do_block_signals(const char* argument, struct Block block) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
}

// The mask as the program set it, and what waits behind it.
static void do_signals(const char* argument, struct Block block) {
  sigset_t pending, mask;
  sigpending(&pending);
  sigprocmask(SIG_SETMASK, NULL, &mask);
  int waiting = 0, blocked = 0;
  for (int i = 1; i < 65; ++i) {
    waiting += sigismember(&pending, i) == 1;
    blocked += sigismember(&mask, i) == 1;
  }
  say("signals: %d pending, %d blocked", waiting, blocked);
}

// ---------------------------------------------------------------- ways to end

static void do_exit(const char* argument, struct Block block) {
  exit(atoi(argument));
}
static void do_exit_at_once(const char* argument, struct Block block) {
  _exit(atoi(argument));
}
static void do_quick_exit(const char* argument, struct Block block) {
  quick_exit(atoi(argument));
}
static void do_thread_exit(const char* argument, struct Block block) {
  pthread_exit(NULL);
}
// The system call that ends this thread alone.
static void do_system_exit(const char* argument, struct Block block) {
  syscall(SYS_exit, atoi(argument));
}
static void do_abort(const char* argument, struct Block block) {
  abort();
}
static void do_kill(const char* argument, struct Block block) {
  kill(getpid(), atoi(argument));
}
static void do_fault(const char* argument, struct Block block) {
  static volatile int* volatile nowhere = NULL;
  *nowhere = 1;
}
static void do_at_end(const char* argument, struct Block block) {
  atexit(use_nvtx_twice);
  at_quick_exit(use_nvtx_twice);
}

const struct Action kProcessActions[] = {{"fork", do_fork},
                                         {"_Fork", do_plain_fork},
                                         {"clone", do_clone},
                                         {"vfork", do_vfork},
                                         {"forks", do_forks},
                                         {"orphan", do_orphan},
                                         {"daemon", do_daemon},
                                         {"exec", do_exec},
                                         {"exec_missing", do_exec_missing},
                                         {"spawn", do_spawn},
                                         {"system", do_system},
                                         {"children", do_children},
                                         {"thread", do_thread},
                                         {"small_thread", do_small_thread},
                                         {"threads", do_threads},
                                         {"detached", do_detached},
                                         {"cancel", do_cancel},
                                         {"default_stack", do_default_stack},
                                         {"thread_end", do_thread_end},
                                         {"coroutine", do_coroutine},
                                         {"stop", do_stop},
                                         {"timer", do_timer},
                                         {"handler", do_handler},
                                         {"catch_file_size", do_catch_file_size},
                                         {"block_signals", do_block_signals},
                                         {"signals", do_signals},
                                         {"exit", do_exit},
                                         {"_exit", do_exit_at_once},
                                         {"quick_exit", do_quick_exit},
                                         {"pthread_exit", do_thread_exit},
                                         {"system_exit", do_system_exit},
                                         {"abort", do_abort},
                                         {"kill", do_kill},
                                         {"fault", do_fault},
                                         {"at_end", do_at_end},
                                         {NULL, NULL}};
