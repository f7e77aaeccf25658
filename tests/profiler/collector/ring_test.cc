// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/ring.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <rapidcheck/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <cstring>
#include <thread>
#include <vector>

#include "profiler/convert/spool_reader.h"

namespace preserve::collector {
namespace {

using spool::RecordHeader;
using spool::RecordType;

// Completes a record that was reserved.
void finish(Ring& ring, char* out, uint64_t number, size_t bytes = 16) {
  const RecordHeader head{static_cast<uint16_t>(bytes / 8), 0, RecordType::mark, 0, 0, number};
  std::memcpy(out, &head, sizeof(head));
  ring.publish(bytes);
}

struct TestRing {
  explicit TestRing(size_t bytes) : memory(bytes / 8) {
    ring.attach(reinterpret_cast<char*>(memory.data()), bytes);
  }
  bool put(uint64_t number, size_t bytes, size_t keep = 0) {
    char* out = ring.reserve(bytes, keep);
    if (out != nullptr) finish(ring, out, number, bytes);
    return out != nullptr;
  }
  // Numbers of the records taken out, in order.
  std::vector<uint64_t> take() {
    const Ring::Readable part = ring.readable();
    std::vector<uint64_t> numbers;
    for (const std::string_view bytes : {std::string_view(part.first, part.first_bytes),
                                         std::string_view(part.second, part.second_bytes)}) {
      SpoolCursor cursor(bytes);
      SpoolRecord record;
      while (cursor.next(&record)) numbers.push_back(record.head.ticks);
      EXPECT_FALSE(cursor.damaged());
    }
    ring.consume(part.upto);
    return numbers;
  }
  std::vector<uint64_t> memory;
  Ring ring;
};

TEST(Ring, RefusesWhenFullAndNotBefore) {
  TestRing test(4096);
  for (uint64_t i = 0; i < 4096 / 16; ++i) EXPECT_TRUE(test.put(i, 16)) << i;
  EXPECT_FALSE(test.put(256, 16));
  EXPECT_EQ(test.take().size(), 256U);
  EXPECT_TRUE(test.put(257, 16));
}

// A frame below the caller's, as a signal handler has.
[[gnu::noinline]] bool reserve_below(Ring& ring, bool publish) {
  char* volatile out = ring.reserve(16, 0);
  if (out == nullptr) return false;
  const RecordHeader head{2, 0, RecordType::mark, 0, 0, 7};
  std::memcpy(out, &head, sizeof(head));
  if (publish) ring.publish(16);
  return true;
}

TEST(Ring, RefusesAHandlerThatInterruptsARecord) {
  TestRing test(4096);
  char* out = test.ring.reserve(16, 0);
  EXPECT_FALSE(reserve_below(test.ring, true));
  EXPECT_TRUE(test.ring.interrupted());
  finish(test.ring, out, 5);
  EXPECT_FALSE(test.ring.interrupted());
  EXPECT_TRUE(reserve_below(test.ring, true));
  EXPECT_TRUE(reserve_below(test.ring, false)) << "and jumps out";
  out = test.ring.reserve(16, 0);  // from here: a function in between has a frame of its own
  ASSERT_NE(out, nullptr);
  finish(test.ring, out, 8);
  EXPECT_EQ(test.take(), (std::vector<uint64_t>{5, 7, 8}));
}

// Handlers on a stack of their own that lies above that of the thread.
struct Handler {
  Ring* ring;
  bool publish;
  bool accepted = false;
  static inline Handler* now = nullptr;
  static void run(int) { now->accepted = reserve_below(*now->ring, now->publish); }
  bool interrupts(Ring& interrupted, bool and_publishes) {
    *this = {&interrupted, and_publishes};
    now = this;
    raise(SIGUSR1);
    return accepted;
  }
};

void record_with_handlers(Ring& ring) {
  Handler handler{};
  EXPECT_TRUE(handler.interrupts(ring, true)) << "between two records";
  char* out = ring.reserve(16, 0);
  EXPECT_FALSE(handler.interrupts(ring, true));
  finish(ring, out, 5);
  EXPECT_TRUE(handler.interrupts(ring, false)) << "and jumps out";
  EXPECT_TRUE(reserve_below(ring, true));
}

// On a thread whose stack for signal handlers lies right above its own. `flags`: of that stack.
void record_below_a_stack_for_handlers(TestRing& test, int flags, void (*record)(Ring&)) {
  constexpr size_t kStack = size_t{1} << 20;
  char* const memory = static_cast<char*>(
      mmap(nullptr, 2 * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  struct Given {
    Ring* ring;
    char* handlers;
    int flags;
    void (*record)(Ring&);
  };
  Given given{&test.ring, memory + kStack, flags, record};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstack(&attributes, memory, kStack), 0);
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, &attributes,
                [](void* from) -> void* {
                  const Given& its = *static_cast<Given*>(from);
                  stack_t other{}, before{};
                  other.ss_sp = its.handlers;
                  other.ss_size = kStack;
                  other.ss_flags = its.flags;
                  sigaltstack(&other, &before);
                  struct sigaction action {
                  }, old{};
                  action.sa_handler = Handler::run;
                  action.sa_flags = SA_ONSTACK;
                  sigaction(SIGUSR1, &action, &old);
                  its.record(*its.ring);
                  sigaction(SIGUSR1, &old, nullptr);
                  sigaltstack(&before, nullptr);
                  return nullptr;
                },
                &given),
            0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  munmap(memory, 2 * kStack);
}

TEST(Ring, RefusesAHandlerOnAStackAboveThatOfTheThread) {
  TestRing test(4096);
  record_below_a_stack_for_handlers(test, 0, record_with_handlers);
  EXPECT_EQ(test.take(), (std::vector<uint64_t>{7, 5, 7}));
}

// The kernel says there that there is no stack for handlers.
TEST(Ring, RefusesAHandlerOnAStackThatIsDisarmed) {
  constexpr int kAutodisarm = static_cast<int>(1U << 31);  // SS_AUTODISARM of linux/signal.h
  TestRing test(4096);
  record_below_a_stack_for_handlers(test, kAutodisarm, [](Ring& ring) {
    Handler handler{};
    char* out = ring.reserve(16, 0);
    EXPECT_FALSE(handler.interrupts(ring, true));
    finish(ring, out, 5);
    EXPECT_TRUE(handler.interrupts(ring, true)) << "between two records";
  });
  EXPECT_EQ(test.take(), (std::vector<uint64_t>{5, 7}));
}

TEST(Ring, KeepsRoomForWhatMustNotBeRefused) {
  TestRing test(4096);
  uint64_t accepted = 0;
  while (test.put(accepted, 32, (accepted + 1) * 16 + 8)) ++accepted;
  // Every accepted push finds room for its pop.
  for (uint64_t i = 0; i < accepted; ++i) EXPECT_TRUE(test.put(1000 + i, 16));
}

TEST(Ring, NeverGivesOutMoreThanItHolds) {
  TestRing test(4096);
  EXPECT_TRUE(test.put(0, 16));
  test.ring.consume(64);  // beyond what was published: only a defect could do that
  const Ring::Readable part = test.ring.readable();
  EXPECT_EQ(part.first_bytes + part.second_bytes, 0U);
}

TEST(Ring, TellsWhenItIsHalfFull) {
  TestRing test(4096);
  for (int i = 0; i < 128; ++i) {
    EXPECT_TRUE(test.put(0, 16));
    EXPECT_FALSE(test.ring.half_full()) << i;
  }
  EXPECT_TRUE(test.put(0, 16));
  EXPECT_TRUE(test.ring.half_full());
  test.take();
  EXPECT_FALSE(test.ring.half_full());
}

RC_GTEST_PROP(Ring, GivesBackWhatWentInInOrder, ()) {
  TestRing test(4096);
  uint64_t put = 0, taken = 0;
  const auto sizes = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 60));
  for (const int size : sizes) {
    if (size == 0) {
      for (const uint64_t number : test.take()) RC_ASSERT(number == taken++);
    } else if (test.put(put, 16 + 8 * static_cast<size_t>(size))) {
      ++put;
    }
  }
  for (const uint64_t number : test.take()) RC_ASSERT(number == taken++);
  RC_ASSERT(put == taken);
}

TEST(Ring, OneWritesWhileAnotherReads) {
  TestRing test(4096);
  constexpr uint64_t kRecords = 100'000;
  std::thread writer([&test] {
    for (uint64_t i = 0; i < kRecords; ++i) {
      while (!test.put(i, 16 + 8 * (i % 7))) std::this_thread::yield();
    }
  });
  uint64_t next = 0;
  while (next < kRecords) {
    for (const uint64_t number : test.take()) ASSERT_EQ(number, next++);
    std::this_thread::yield();
  }
  writer.join();
}

}  // namespace
}  // namespace preserve::collector
