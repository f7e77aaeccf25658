// SPDX-License-Identifier: Apache-2.0
// Actions on what a process is and has: NVTX, descriptors, limits, folders, privileges, sandboxes.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtPayload.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "script.h"

// ---------------------------------------------------------------- NVTX and output

static void ranges(const char* name, int count) {
  for (int i = 0; i < count; ++i) {
    nvtxRangePushA(name);
    nvtxRangePop();
  }
}

static void schema(void) {
  const nvtxPayloadSchemaEntry_t entry = {
      0, NVTX_PAYLOAD_ENTRY_TYPE_UINT64, "value", "", 0, 0, NULL, NULL};
  nvtxPayloadSchemaAttr_t attributes = {0};
  attributes.fieldMask = NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_TYPE |
                         NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_ENTRIES |
                         NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_NUM_ENTRIES;
  attributes.type = NVTX_PAYLOAD_SCHEMA_TYPE_STATIC;
  attributes.entries = &entry;
  attributes.numEntries = 1;
  nvtxPayloadSchemaRegister(NULL, &attributes);
}

void use_nvtx(const char* kind) {
  if (strcmp(kind, "mark") == 0) {
    nvtxMarkA("mark");
  } else if (strcmp(kind, "range") == 0) {
    nvtxRangeEnd(nvtxRangeStartA("started"));
  } else if (strcmp(kind, "string") == 0) {
    nvtxDomainRegisterStringA(NULL, "string");
  } else if (strcmp(kind, "domain") == 0) {
    nvtxDomainDestroy(nvtxDomainCreateA("domain"));
  } else if (strcmp(kind, "schema") == 0) {
    schema();
  } else if (strcmp(kind, "hot") == 0) {
    ranges("range", 20000);
  } else {
    ranges(*kind != '\0' ? kind : "range", 1);
  }
}

static void do_nvtx(const char* argument, struct Block block) {
  use_nvtx(argument);
}

// A range for every millisecond, named by their number, until somebody kills the process. The
// number is also in the file that the argument names.
static void do_steady(const char* argument, struct Block block) {
  const int file = open(argument, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0 || ftruncate(file, sizeof(long)) != 0) return;
  volatile long* shown = mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shown == MAP_FAILED) return;
  for (long number = 1;; ++number) {
    char name[32];
    snprintf(name, sizeof(name), "%ld", number);
    nvtxRangePushA(name);
    nvtxRangePop();
    *shown = number;
    sleep_ms(1);
  }
}

static void do_errno(const char* argument, struct Block block) {
  errno = 77;
  use_nvtx(argument);
  say("errno: %d", errno);
}

static void do_say(const char* argument, struct Block block) {
  say("says %s", argument);
}
static void do_buffered(const char* argument, struct Block block) {
  printf("buffered %s\n", argument);  // comes out when the C library ends the process
}
static void do_complain(const char* argument, struct Block block) {
  fprintf(stderr, "complaint\n");
}
static void do_sleep(const char* argument, struct Block block) {
  sleep_ms(atoi(argument));
}

// ---------------------------------------------------------------- descriptors

// A profiler may hold descriptors from 200 on, or the two highest where the limit is lower.
static int low_end(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur > 200 ? 200 : (int)limit.rlim_cur - 2;
}

static void do_descriptors(const char* argument, struct Block block) {
  int open_count = 0;
  for (int i = 0, end = low_end(); i < end; ++i) open_count += fcntl(i, F_GETFD) >= 0;
  const int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (lowest >= 0) close(lowest);
  say("descriptors: %d open, lowest free %d", open_count, lowest);
}

static void do_close_all(const char* argument, struct Block block) {
  close_range((unsigned)atoi(argument), ~0u, 0);
}

// Files of the program's own behind ten numbers from the argument on.
static void do_occupy(const char* argument, struct Block block) {
  const int first = atoi(argument);
  char path[] = "/tmp/scripted_program_XXXXXX";
  const int file = mkstemp(path);
  unlink(path);
  for (int i = first; i < first + 10; ++i) {
    if (i != file) dup2(file, i);
  }
  use_nvtx("hot");
  sleep_ms(150);  // more than a flush period
  struct stat status;
  const int known = fstat(first, &status) == 0;
  say("occupied: %s, %lld bytes", known ? "kept" : strerror(errno),
      known ? (long long)status.st_size : 0LL);
}

// Opens files until no descriptor is left, and uses NVTX then.
static void do_fill(const char* argument, struct Block block) {
  static int files[4096];
  const struct rlimit limit = {64, 64};
  setrlimit(RLIMIT_NOFILE, &limit);
  int count = 0;
  while (count < 4096 && (files[count] = open("/dev/null", O_RDONLY)) >= 0) ++count;
  use_nvtx("");
  if (strcmp(argument, "count") == 0) say("filled: %d", count);
  while (count > 0) close(files[--count]);
}

// ---------------------------------------------------------------- limits

static void limit(const char* name, int resource, rlim_t value) {
  const struct rlimit both = {value, value};
  if (setrlimit(resource, &both) != 0) say("%s: %s", name, strerror(errno));
}
static void do_limit_file(const char* argument, struct Block block) {
  limit("file", RLIMIT_FSIZE, (rlim_t)atol(argument));
}
static void do_limit_descriptors(const char* argument, struct Block block) {
  limit("descriptors", RLIMIT_NOFILE, (rlim_t)atol(argument));
}
// In KiB over what is mapped now.
static void do_limit_memory(const char* argument, struct Block block) {
  long pages = 0;
  FILE* file = fopen("/proc/self/statm", "re");
  if (file && fscanf(file, "%ld", &pages) != 1) pages = 0;
  if (file) fclose(file);
  limit("memory", RLIMIT_AS, (rlim_t)pages * 4096 + (rlim_t)atol(argument) * 1024);
}
static void do_limit_processes(const char* argument, struct Block block) {
  limit("processes", RLIMIT_NPROC, (rlim_t)atol(argument));
}
static void do_limit_locked(const char* argument, struct Block block) {
  limit("locked", RLIMIT_MEMLOCK, (rlim_t)atol(argument));
}

// ---------------------------------------------------------------- folders and privileges

static void do_remove_folder(const char* argument, struct Block block) {
  char path[] = "/tmp/odd_folder_XXXXXX";
  if (mkdtemp(path) && chdir(path) == 0) rmdir(path);
}
static void do_chroot(const char* argument, struct Block block) {
  char path[] = "/tmp/odd_folder_XXXXXX";
  if (!mkdtemp(path)) return;
  const int error = chroot(path) == 0 && chdir("/") == 0 ? 0 : errno;
  say("chroot: %s", strerror(error));
  (void)!rmdir(error == 0 ? "/" : path);
}
static void do_drop_root(const char* argument, struct Block block) {
  const int done = setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0;
  say("drop root: %s, now %d", done ? "done" : strerror(errno), (int)getuid());
}
static void do_clear_environment(const char* argument, struct Block block) {
  clearenv();
}
static void do_user_namespace(const char* argument, struct Block block) {
  say("user namespace: %s", unshare(CLONE_NEWUSER) == 0 ? "entered" : strerror(errno));
}
static void do_mount_namespace(const char* argument, struct Block block) {
  const int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  say("mount namespace: %s", setns(own, CLONE_NEWNS) == 0 ? "entered" : strerror(errno));
  close(own);
}

// Children are in it, where /proc has other numbers; threads cannot be made any more.
static void do_process_namespace(const char* argument, struct Block block) {
  say("process namespace: %s", unshare(CLONE_NEWPID) == 0 ? "made" : strerror(errno));
}
static void do_no_proc(const char* argument, struct Block block) {
  const int done = unshare(CLONE_NEWNS) == 0 &&
                   mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                   umount2("/proc", MNT_DETACH) == 0;
  say("no /proc: %s", done ? "done" : strerror(errno));
}

// ---------------------------------------------------------------- sandboxes

static int never[2];  // a pipe: to wait in read(), which sandboxes allow
static volatile int starving;

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
}
static void do_compute(const char* argument, struct Block block) {
  for (const double end_ms = now_ms() + atoi(argument); now_ms() < end_ms;) {
  }
}
static void* run_starver(void* argument) {
  const struct sched_param first = {.sched_priority = 1};
  sched_setscheduler(0, SCHED_FIFO, &first);
  starving = 1;
  do_compute(argument, (struct Block){NULL, NULL});
  char byte;
  read(never[0], &byte, 1);
  return NULL;
}

// For a while the threads that the program did not make itself get no processor, if it may do that.
static void do_starve(const char* argument, struct Block block) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  DIR* tasks = opendir("/proc/self/task");
  for (struct dirent* task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
    const pid_t number = atoi(task->d_name);
    if (number == 0 || number == gettid()) continue;
    sched_setaffinity(number, sizeof(one), &one);
  }
  if (tasks != NULL) closedir(tasks);
  pthread_attr_t there;
  pthread_attr_init(&there);
  pthread_attr_setaffinity_np(&there, sizeof(one), &one);
  pthread_t starver;
  if (pipe(never) == 0 && pthread_create(&starver, &there, run_starver, (void*)argument) == 0) {
    pthread_detach(starver);
    while (!starving) sched_yield();
  }
}

static void do_no_clock_counter(const char* argument, struct Block block) {
  prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
}
static void do_strict(const char* argument, struct Block block) {
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
}

#define SANDBOX_LOAD BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define SANDBOX_IF(call, result) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, result)

static long enter(struct sock_filter* code, size_t count, int all_threads) {
  const struct sock_fprog program = {(unsigned short)count, code};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, all_threads ? SECCOMP_FILTER_FLAG_TSYNC : 0,
                 &program);
}

// A server's sandbox: no files, no processes and threads any more. "kill" or "refuse", for all
// threads when "_all" follows.
static void do_sandbox(const char* argument, struct Block block) {
  const unsigned kill = strncmp(argument, "kill", 4) == 0;
  const unsigned no = kill ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM;
  struct sock_filter code[] = {SANDBOX_LOAD,
                               SANDBOX_IF(open, no),
                               SANDBOX_IF(openat, no),
                               SANDBOX_IF(creat, no),
                               SANDBOX_IF(socket, no),
                               SANDBOX_IF(clone, no),
                               SANDBOX_IF(clone3, no),
                               SANDBOX_IF(fork, no),
                               SANDBOX_IF(vfork, no),
                               SANDBOX_IF(execve, no),
                               SANDBOX_IF(ftruncate, no),
                               BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  if (enter(code, sizeof(code) / sizeof(*code), strstr(argument, "_all") != NULL) != 0) {
    say("sandbox: %s", strerror(errno));
  }
}

// Only what a single thread that computes and writes needs; prctl too when that follows.
static void do_tight_sandbox(const char* argument, struct Block block) {
  const unsigned rest = SECCOMP_RET_KILL_PROCESS;
  struct sock_filter code[] = {
      SANDBOX_LOAD,
      SANDBOX_IF(prctl, strstr(argument, "prctl") ? SECCOMP_RET_ALLOW : rest),
      SANDBOX_IF(read, SECCOMP_RET_ALLOW),
      SANDBOX_IF(write, SECCOMP_RET_ALLOW),
      SANDBOX_IF(brk, SECCOMP_RET_ALLOW),
      SANDBOX_IF(mmap, SECCOMP_RET_ALLOW),
      SANDBOX_IF(munmap, SECCOMP_RET_ALLOW),
      SANDBOX_IF(rt_sigreturn, SECCOMP_RET_ALLOW),
      SANDBOX_IF(exit, SECCOMP_RET_ALLOW),
      SANDBOX_IF(exit_group, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, rest)};
  enter(code, sizeof(code) / sizeof(*code), strstr(argument, "all") != NULL);
}

const struct Action kStateActions[] = {{"nvtx", do_nvtx},
                                       {"steady", do_steady},
                                       {"errno", do_errno},
                                       {"say", do_say},
                                       {"buffered", do_buffered},
                                       {"complain", do_complain},
                                       {"sleep", do_sleep},
                                       {"descriptors", do_descriptors},
                                       {"close_all", do_close_all},
                                       {"occupy", do_occupy},
                                       {"fill", do_fill},
                                       {"limit_file", do_limit_file},
                                       {"limit_descriptors", do_limit_descriptors},
                                       {"limit_memory", do_limit_memory},
                                       {"limit_processes", do_limit_processes},
                                       {"limit_locked", do_limit_locked},
                                       {"remove_folder", do_remove_folder},
                                       {"chroot", do_chroot},
                                       {"drop_root", do_drop_root},
                                       {"clear_environment", do_clear_environment},
                                       {"user_namespace", do_user_namespace},
                                       {"mount_namespace", do_mount_namespace},
                                       {"process_namespace", do_process_namespace},
                                       {"no_proc", do_no_proc},
                                       {"compute", do_compute},
                                       {"starve", do_starve},
                                       {"no_clock_counter", do_no_clock_counter},
                                       {"strict", do_strict},
                                       {"sandbox", do_sandbox},
                                       {"tight_sandbox", do_tight_sandbox},
                                       {NULL, NULL}};
