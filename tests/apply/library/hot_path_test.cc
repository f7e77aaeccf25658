// SPDX-License-Identifier: Apache-2.0
// From the lock on a rank under a plan allocates nothing, takes no lock and makes no system call,
// in whatever arm and way.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <ucontext.h>

#include <cstdlib>

#include "tests/apply/library/scripted_mpi.h"

// NOLINTBEGIN(readability-identifier-naming): names of the C library
#if defined(__SANITIZE_ADDRESS__)
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, size_t),
                                                         void (*)(const volatile void*));
#elif !defined(__SANITIZE_THREAD__)
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void __libc_free(void*);
}
#endif
// NOLINTEND(readability-identifier-naming)

namespace {

thread_local bool counts = false;
thread_local int allocations = 0, locks = 0, system_calls = 0;
thread_local long first_system_call = -1;
// What the kernel reads before every call of this thread.
thread_local volatile char gate = 0;
constexpr char kOpen = 0, kShut = 1;  // SYSCALL_DISPATCH_FILTER_ALLOW, _BLOCK

[[maybe_unused]] void count_allocation() {
  if (counts) ++allocations;
}

}  // namespace

#if defined(__SANITIZE_ADDRESS__)
namespace {
const int hooked = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, size_t) { count_allocation(); },
    [](const volatile void*) { count_allocation(); });
}
#elif !defined(__SANITIZE_THREAD__)
extern "C" {
void* malloc(size_t bytes) {
  count_allocation();
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  count_allocation();
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, size_t bytes) {
  count_allocation();
  return __libc_realloc(memory, bytes);
}
void free(void* memory) {
  count_allocation();
  __libc_free(memory);
}
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static const auto next =
      reinterpret_cast<decltype(&pthread_mutex_lock)>(::dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  if (counts) ++locks;
  return next(mutex);
}
int pthread_mutex_trylock(pthread_mutex_t* mutex) {
  static const auto next = reinterpret_cast<decltype(&pthread_mutex_trylock)>(
      ::dlsym(RTLD_NEXT, "pthread_mutex_trylock"));
  if (counts) ++locks;
  return next(mutex);
}
}
#endif

namespace preserve::apply {
namespace {

// ThreadSanitizer keeps signals back.
#if defined(__x86_64__) && defined(PR_SET_SYSCALL_USER_DISPATCH) && !defined(__SANITIZE_THREAD__)
// The call that the gate stopped is made after all, and those after it are not seen.
void on_system_call(int, siginfo_t* info, void* context) {
  gate = kOpen;
  ++system_calls;
  first_system_call = info->si_syscall;
  auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_RIP] -= 2;  // `syscall`
}
bool watch_system_calls() {
  struct sigaction action {};
  action.sa_sigaction = on_system_call;
  action.sa_flags = SA_SIGINFO;
  return ::sigaction(SIGSYS, &action, nullptr) == 0 &&
         ::prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0UL, 0UL, &gate) == 0;
}
void unwatch_system_calls() {
  ::prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0UL, 0UL, 0UL);
}
#else
bool watch_system_calls() {
  return false;
}
void unwatch_system_calls() {}
#endif

struct Counted {
  int allocations, locks, system_calls;
  long first_system_call;
};
template <typename Call>
Counted count(Call call) {
  const bool watched = watch_system_calls();
  allocations = locks = system_calls = 0;
  first_system_call = -1;
  counts = true;
  if (watched) gate = kShut;
  call();
  gate = kOpen;
  counts = false;
  unwatch_system_calls();
  return {allocations, locks, system_calls, first_system_call};
}

TEST(Count, SeesWhatIsCounted) {
#if !defined(__SANITIZE_THREAD__)  // whose allocator is its own
  const Counted allocated = count([] {
    void* volatile memory = std::malloc(1 << 20);
    std::free(memory);
  });
  EXPECT_EQ(allocated.allocations, 2);
#endif
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  const Counted locked = count([&mutex] {
    ::pthread_mutex_lock(&mutex);
    ::pthread_mutex_unlock(&mutex);
  });
  EXPECT_EQ(locked.locks, 1);
#endif
  if (!watch_system_calls()) GTEST_SKIP() << "system calls are not seen on this system";
  unwatch_system_calls();
  pid_t parent = 0;
  const Counted called = count([&parent] { parent = ::getppid(); });
  EXPECT_EQ(called.system_calls, 1);
  EXPECT_GT(parent, 0);
}

struct HotPath {
  const char* name;
  Via via;
  Mode mode;
  double gain;  // of the steps with the plan
  State state;  // after 1000 steps
};
class AfterTheLock : public testing::TestWithParam<HotPath> {};

TEST_P(AfterTheLock, NothingIsAllocatedLockedOrAskedOfTheSystem) {
  LoadedRank rank(
      scripted_plan({.via = GetParam().via, .mode = GetParam().mode, .link_latency_ns = 5'000}));
  rank.board.ready = 1;  // the other rank
  rank.probed = {true, true, 10, 5};
  rank.ways.reserve(1 << 14);  // the script's own
  rank.steps(2 + 4);
  ASSERT_EQ(rank.seen().locks, 1U);
  const Counted counted = count([&rank] { rank.steps(1000, GetParam().gain); });
  EXPECT_EQ(counted.allocations, 0);
  EXPECT_EQ(counted.locks, 0);
  EXPECT_EQ(counted.system_calls, 0) << "the first is number " << counted.first_system_call;
  EXPECT_EQ(rank.seen().locks, 1U);
  EXPECT_EQ(rank.seen().state, GetParam().state);
  EXPECT_EQ(rank.seen().fetched_bytes > 0, GetParam().via != Via::spare);
}

INSTANTIATE_TEST_SUITE_P(
    Ways, AfterTheLock,
    testing::Values(HotPath{"progress", Via::progress, Mode::guard, 0.05, State::on},
                    HotPath{"turned_off", Via::progress, Mode::guard, -0.05, State::off},
                    HotPath{"compared", Via::progress, Mode::compare, 0.05, State::measuring},
                    HotPath{"converted", Via::convert, Mode::guard, 0.05, State::on},
                    HotPath{"spare", Via::spare, Mode::compare, 0, State::measuring}),
    [](const auto& chosen) { return chosen.param.name; });

}  // namespace
}  // namespace preserve::apply
