// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/foreign_process.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "profiler/collector/page_use.h"

namespace preserve::collector {
namespace {

constexpr int kTriesToSee = 2'000;       // of 50 us
constexpr size_t kStackBytes = 1 << 20;  // exit handlers of the program may run on it
constexpr size_t kSmallStackBytes = 1 << 16, kShareOfData = 64;  // where data is limited

std::atomic<int> threads{0};     // of start_thread()
std::atomic<uint32_t> begun{0};  // of these, those whose body has begun
std::atomic<bool> ended{false};
int status_file = -1;  // /proc/self/stat
long number = 0;       // of the process in there; not getpid() where /proc is of another name space
sigset_t program_mask{};

ssize_t read_file(const char* path, void* out, size_t bytes) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  const ssize_t got = ::read(fd, out, bytes);
  ::close(fd);
  return got;
}

// What writing beyond a limit has raised on this thread is not the program's.
void restore_signals(const sigset_t& mask) {
  sigset_t own;
  sigemptyset(&own);
  sigaddset(&own, SIGXFSZ);
  const timespec now{};
  (void)::sigtimedwait(&own, nullptr, &now);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
}

struct Status {
  long number;   // in the name space of the mounted /proc
  char state;    // of the first thread
  long threads;  // that one too, also when it has ended
};

// False: the file is not what it was, since the program may close or replace descriptors that it
// does not know.
bool read_status(Status* status) {
  constexpr int kBetween = 16;  // numbers between state and threads
  char text[512];
  const ssize_t got = ::pread(status_file, text, sizeof(text) - 1, 0);
  text[got > 0 ? got : 0] = '\0';
  const char* name_end = std::strrchr(text, ')');
  if (name_end == nullptr || name_end[1] != ' ' || name_end[2] == '\0') return false;
  status->number = ::strtol(text, nullptr, 10);
  status->state = name_end[2];
  char* at = const_cast<char*>(name_end + 3);
  for (int i = 0; i <= kBetween; ++i) status->threads = ::strtol(at, &at, 10);
  return number == 0 || status->number == number;
}

void open_status() {
  const int low = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  status_file = low < 0 ? -1 : move_up(low);
  Status status;
  number = 0;
  if (read_status(&status)) number = status.number;
}

size_t stack_bytes() {
  rlimit data{};
  if (::getrlimit(RLIMIT_DATA, &data) != 0) return kStackBytes;
  return std::clamp(static_cast<size_t>(data.rlim_cur) / kShareOfData, kSmallStackBytes,
                    kStackBytes);
}

// The loader, called by hand with a program as its argument.
bool is_loader(const char* path) {
  const char* slash = std::strrchr(path, '/');
  const char* name = slash == nullptr ? path : slash + 1;
  return std::strncmp(name, "ld", 2) == 0 && std::strstr(name, ".so") != nullptr;
}

}  // namespace

// The kernel has loaded no interpreter for it.
bool is_static_program() {
  ElfW(auxv_t) entries[64];
  const ssize_t bytes = read_file("/proc/self/auxv", entries, sizeof(entries));
  if (bytes <= 0) return false;
  bool interpreter = true;
  for (size_t i = 0; i < static_cast<size_t>(bytes) / sizeof(entries[0]); ++i) {
    if (entries[i].a_type == AT_BASE) interpreter = entries[i].a_un.a_val != 0;
  }
  if (interpreter) return false;
  char path[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (length <= 0) return false;
  path[length] = '\0';
  return !is_loader(path);
}

int move_up(int descriptor) {
  int moved = ::fcntl(descriptor, F_DUPFD_CLOEXEC, kHighDescriptor);
  rlimit limit{};
  if (moved < 0 && ::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= kHighDescriptor) {
    for (int low = static_cast<int>(limit.rlim_cur) - 1; moved < 0 && low > descriptor; --low) {
      moved = ::fcntl(descriptor, F_DUPFD_CLOEXEC, low);
    }
  }
  if (moved < 0) return descriptor;
  ::close(descriptor);
  return moved;
}

bool start_thread(const char* name, void* (*body)(void*)) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &program_mask);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, stack_bytes());
  threads.fetch_add(1);
  pthread_t thread;
  const uint32_t before = begun.load();
  const auto enter = [](void* given) -> void* {
    begun.fetch_add(1);
    return reinterpret_cast<void* (*)(void*)>(given)(nullptr);
  };
  const bool started =
      pthread_create(&thread, &attributes, enter, reinterpret_cast<void*>(body)) == 0;
  if (started) {
    pthread_setname_np(thread, name);
    // A child that the C library does not see waits for ever, in setuid() for example, for a thread
    // that was just being made.
    for (int i = 0; begun.load() == before && i < kTriesToSee; ++i) ::usleep(50);
  } else {
    threads.fetch_sub(1);
  }
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &program_mask, nullptr);
  return started;
}

void leave_thread() {
  threads.fetch_sub(1);
}

void begin_process() {
  open_status();
  open_page_use();
}

void leave_process() {
  Status status;  // the number may be a file of the program's by now
  if (status_file >= 0 && read_status(&status)) ::close(status_file);
  status_file = -1;
  close_page_use();
  threads.store(0);
  ended.store(false);
}

// The first thread is then a zombie.
bool program_has_ended(bool if_unknown) {
  if (ended.load(std::memory_order_acquire)) return true;
  Status status;
  bool known = read_status(&status);
  if (!known) {
    open_status();
    known = read_status(&status);
  }
  if (!known) return if_unknown;  // not for good, nor for others
  if (status.state != 'Z' || status.threads - 1 != threads.load()) return false;
  ended.store(true, std::memory_order_release);
  return true;
}

void* before_end() {
  restore_signals(program_mask);
  return nullptr;
}

void without_signals(void (*work)()) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  work();
  restore_signals(before);
}

}  // namespace preserve::collector
