// SPDX-License-Identifier: Apache-2.0
// The session and its buffers inside this process, so that the sanitizers see them: threads that
// launch while the recording is flushed, switched, written and stopped. The fake CUPTI is linked
// in.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>
#include <system_error>
#include <thread>
#include <vector>

#include "common/output_file.h"
#include "profiler/collector/cuda/counters.h"
#include "profiler/collector/cuda/session.h"
#include "profiler/collector/recorder.h"
#include "profiler/collector/spool_file.h"
#include "tests/profiler/collector/cuda/fake_cupti.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

cuda::CuptiApi fake_api() {
  cuda::CuptiApi api;
  const auto find = [](auto& function, const char* symbol) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(::dlsym(RTLD_DEFAULT, symbol));
  };
#define PRESERVE_FAKE(member, symbol, required) find(api.member, #symbol);
  PRESERVE_CUPTI_FUNCTIONS(PRESERVE_FAKE)
#undef PRESERVE_FAKE
  api.func_param_info = cuFuncGetParamInfo;
  api.kernel_param_info = cuKernelGetParamInfo;
  api.stream_is_capturing = cuStreamIsCapturing;
  return api;
}

const cuda::CuptiApi api = fake_api();
cuda::Session* running = nullptr;

void launch_kernel(const char* name = "kernel", uint64_t function = 0x10) {
  uint64_t pointer = 0x1000;
  int number = 1;
  void* parameters[] = {&pointer, &number};
  fake_launch(name, function, parameters);
}

// The recorder reads its environment once per process, as it is loaded: before that.
char folder[] = "/tmp/preserve-test-XXXXXX";
__attribute__((constructor(101))) void record_into_a_folder() {
  if (::mkdtemp(folder) == nullptr) std::abort();
  ::setenv("PRESERVE_SPOOL_DIR", folder, 1);
  ::setenv("PRESERVE_FLUSH_MS", "1", 1);
}
__attribute__((destructor(101))) void remove_the_folder() {
  std::error_code error;
  std::filesystem::remove_all(folder, error);
}

// Three that each run `steps` steps of five kernels.
std::vector<std::thread> launching_threads(cuda::Session& session, int steps) {
  std::vector<std::thread> threads;
  threads.reserve(3);
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&session, steps] {
      for (int step = 0; step < steps; ++step) {
        session.on_range({collector::RangeEvent::push, "step"});
        for (uint64_t k = 0; k < 5; ++k) launch_kernel("kernel", 0x10 + k);
        session.on_range({collector::RangeEvent::pop, {}});
      }
    });
  }
  return threads;
}

TEST(CudaSession, LaunchesWhileItIsFlushedSwitchedAndStopped) {
  cuda::SessionOptions options{.buffers = 8, .buffer_bytes = 1 << 16};
  ASSERT_TRUE(options.range.parse("steps:2:step"));
  cuda::Session session(api, options);
  ASSERT_TRUE(session.start()) << session.reason();
  running = &session;
  collector::set_background_source([](collector::SpoolFile& file) { running->write(file); });
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads = launching_threads(session, 200);
  std::thread ticker([&] {
    while (!stop.load()) session.tick();
  });
  for (std::thread& thread : threads) thread.join();
  session.stop();
  stop.store(true);
  ticker.join();
  EXPECT_EQ(session.state(), cuda::State::drained);
  session.stop();  // once more: nothing
  collector::flush_now();
  collector::set_background_source(nullptr);
  collector::flush_now();
  EXPECT_LE(session.buffers().mapped_bytes(), session.buffers().limit_bytes());
}

TEST(CudaSession, StartedRangeRecordsUntilItEndsOnWhateverThread) {
  using collector::RangeEvent;
  cuda::SessionOptions options;
  ASSERT_TRUE(options.range.parse("nvtx:request*"));
  cuda::Session session(api, options);
  ASSERT_TRUE(session.start());
  session.on_range({RangeEvent::start, "other", 1});
  EXPECT_EQ(session.state(), cuda::State::armed);
  session.on_range({RangeEvent::start, "request 7", 2});
  EXPECT_EQ(session.state(), cuda::State::recording);
  session.on_range({RangeEvent::start, "request 8", 3});  // one at a time
  session.on_range({RangeEvent::push, "request 9"});
  session.on_range({RangeEvent::pop, {}});
  session.on_range({RangeEvent::end, {}, 3});
  session.on_range({RangeEvent::end, {}, 1});
  EXPECT_EQ(session.state(), cuda::State::recording);
  std::thread([&] { session.on_range({RangeEvent::end, {}, 2}); }).join();
  EXPECT_EQ(session.state(), cuda::State::armed);
  session.on_range({RangeEvent::end, {}, 2});  // once more: nothing
  session.on_range({RangeEvent::push, "request 10"});
  session.on_range({RangeEvent::end, {}, 0});
  EXPECT_EQ(session.state(), cuda::State::recording);
  session.on_range({RangeEvent::pop, {}});
  EXPECT_EQ(session.state(), cuda::State::armed);
  session.stop();
}

// What is reported once, at the start of CUDA, is wanted whatever the range.
TEST(CudaSession, DevicesAndAllocationsAreRecordedOutsideTheRangeToo) {
  using collector::RangeEvent;
  cuda::SessionOptions options{.hardware_trace = true};
  ASSERT_TRUE(options.range.parse("nvtx:request"));
  cuda::Session session(api, options);
  ASSERT_TRUE(session.start());
  const auto lasting = [] {
    return fake_enabled(CUPTI_ACTIVITY_KIND_DEVICE) + fake_enabled(CUPTI_ACTIVITY_KIND_CONTEXT) +
           fake_enabled(CUPTI_ACTIVITY_KIND_MEMORY2);
  };
  EXPECT_EQ(lasting(), 3);
  EXPECT_EQ(fake_kernels_enabled(), 0);
  EXPECT_EQ(fake_hardware_trace(), 0);  // refused before the driver is ready
  fake_driver_ready();
  EXPECT_EQ(fake_hardware_trace(), 1);
  session.on_range({RangeEvent::push, "request"});
  EXPECT_EQ(fake_kernels_enabled(), 1);
  session.on_range({RangeEvent::pop, {}});
  EXPECT_EQ(fake_kernels_enabled(), 0);
  EXPECT_EQ(lasting(), 3);
  session.stop();
}

// CUPTI 12.6 to 13.0 loses times with a callback.
TEST(CudaSession, TimestampCallbackOnlyWhereItWorks) {
  for (const auto& [version, wanted] : {std::pair{"version=22", 1},
                                        {"version=24", 0},
                                        {"version=28", 0},
                                        {"version=130001", 0},
                                        {"version=130100", 1}}) {
    setenv("FAKE_CUPTI", version, 1);
    cuda::Session session(api, {});
    ASSERT_TRUE(session.start());
    EXPECT_EQ(fake_has_timestamp_callback(), wanted) << version;
    session.stop();
  }
  unsetenv("FAKE_CUPTI");
}

// The ticker may be inside a flush when the program ends; after stop() CUPTI may be gone.
cuda::Session* stopping = nullptr;
std::atomic<bool> stop_returned{false};

TEST(CudaSession, StopWaitsForAFlushThatIsUnderWay) {
  cuda::Session session(api, {});
  ASSERT_TRUE(session.start());
  stopping = &session;
  static std::atomic<bool> inside{false}, overtaken{false};
  static int turns = 0;
  fake_hold_flushes([] {
    inside = true;
    if (stop_returned) overtaken = true;
    if (stopping->state() == cuda::State::recording) return false;
    std::this_thread::yield();
    return overtaken || ++turns > 200;  // turns in which stop() could have returned
  });
  std::thread ticker([&] { session.tick(); });
  while (!inside) std::this_thread::yield();
  std::thread stopper([&] {
    session.stop();
    stop_returned = true;
  });
  ticker.join();
  stopper.join();
  EXPECT_FALSE(overtaken);
  EXPECT_EQ(session.state(), cuda::State::drained);
}

TEST(CudaSession, WhatAContextRecordedIsFetchedBeforeItEnds) {
  cuda::Session session(api, {});
  ASSERT_TRUE(session.start());
  const uint64_t flushes = fake_flushes();
  fake_destroy_context();
  EXPECT_EQ(fake_flushes(), flushes + 1);
  session.stop();
}

// CUPTI tells of a device once, and the chunk with it may be one that the file does not take.
TEST(CudaSession, DevicesAreWrittenAgainAfterAChunkThatDidNotFit) {
  constexpr int64_t kLimit = 32 << 10;
  const test::TemporaryDirectory spools;
  const auto file = std::make_unique<collector::SpoolFile>();
  ASSERT_TRUE(file->create(spools.path().c_str(), 1, kLimit, false, 0));
  ASSERT_TRUE(file->write_header());
  cuda::Session session(api, {});
  ASSERT_TRUE(session.start());
  fake_device_appears("Card of a test");
  const auto write_kernels = [&](int kernels) {
    for (int i = 0; i < kernels; ++i) launch_kernel();
    session.tick();
    session.write(*file);
  };
  write_kernels(500);
  EXPECT_TRUE(file->stuck());
  write_kernels(1);
  EXPECT_FALSE(file->stuck());
  session.stop();
  file->close();
  EXPECT_THAT(read_text_file(std::filesystem::directory_iterator(spools.path())->path()),
              testing::HasSubstr("Card of a test"));
}

TEST(CudaSession, SecondOneOfAProcessIsRefused) {
  cuda::Session first(api, {}), second(api, {});
  ASSERT_TRUE(first.start());
  EXPECT_FALSE(second.start());
  EXPECT_THAT(second.reason(), testing::HasSubstr("still running"));
  EXPECT_EQ(second.state(), cuda::State::degraded);
  first.stop();
}

TEST(CudaSession, CountsWhileThreadsLaunchAndTheRangeSwitchesAndItEnds) {
  cuda::SessionOptions options{.counters = cuda::kDramCounters | cuda::kL2Counters};
  ASSERT_TRUE(options.range.parse("steps:2:step"));
  const int sessions_before = fake_counting_sessions();
  {
    cuda::Session session(api, options);
    ASSERT_TRUE(session.start()) << session.reason();
    EXPECT_EQ(fake_kernels_enabled(), 0);
    std::vector<std::thread> threads = launching_threads(session, 50);
    std::thread stopper([&] { session.stop(); });
    stopper.join();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(session.state(), cuda::State::drained);
    const int sessions = fake_counting_sessions();
    launch_kernel();
    EXPECT_EQ(fake_counting_sessions(), sessions);  // over means over
    EXPECT_GE(sessions, sessions_before);
  }
  EXPECT_EQ(fake_counting_objects(), 0);
}

TEST(CudaSession, CountersGoWithTheirContext) {
  cuda::Session session(api, {.counters = cuda::kL2Counters});
  ASSERT_TRUE(session.start());
  for (int round = 0; round < 40; ++round) {  // more contexts, one after the other, than slots
    const int sessions = fake_counting_sessions();
    launch_kernel();
    EXPECT_EQ(fake_counting_sessions(), sessions + 1);
    EXPECT_EQ(fake_counting_objects(), 2);
    launch_kernel("ncclDevKernel_AllGather", 0x11);
    EXPECT_EQ(fake_counting_sessions(), sessions + 1);
    fake_destroy_context();
    EXPECT_EQ(fake_counting_objects(), 0);
  }
  session.stop();
}

const void* handle(uintptr_t number) {
  return reinterpret_cast<const void*>(number);
}

// CUDA's runtime launches by CUkernel, in the argument for a CUfunction.
TEST(Functions, LayoutOfBothKindsOfHandles) {
  cuda::Functions functions;
  for (const uintptr_t number : {0x10u, 0x11u}) {
    const cuda::KernelFunction* function = functions.find(api, handle(number), "kernel");
    ASSERT_NE(function, nullptr);
    EXPECT_EQ(function->parameters, 2u) << number;
    EXPECT_EQ(function->bytes, 12u);
  }
}

// Autotuners load and unload modules by the thousand, while the rest of the program stays.
TEST(Functions, UnloadingModulesUsesNothingUp) {
  cuda::Functions functions;
  std::vector<uint64_t> ids;
  for (int round = 0; round < 100; ++round) {
    for (uintptr_t number = 0; number < 100; ++number) {
      const cuda::KernelFunction* function = functions.find(api, handle(0x1000 + number), "kernel");
      ASSERT_NE(function, nullptr) << "round " << round;
      if (round == 0) ids.push_back(function->id);
      EXPECT_EQ(function->id, ids[number]);
    }
    functions.forget();
  }
}

TEST(Functions, HandleOfAnUnloadedModuleMayMeanAnotherKernel) {
  cuda::Functions functions;
  const uint64_t first = functions.find(api, handle(0x10), "kernel")->id;
  functions.forget();
  const cuda::KernelFunction* renamed = functions.find(api, handle(0x10), "other");
  ASSERT_NE(renamed, nullptr);
  EXPECT_NE(renamed->id, first);
  EXPECT_EQ(functions.find(api, handle(0x10), "other"), renamed);
  functions.forget();
  fake_second_parameter(8);
  const cuda::KernelFunction* changed = functions.find(api, handle(0x10), "other");
  fake_second_parameter(4);
  ASSERT_NE(changed, nullptr);
  EXPECT_NE(changed->id, renamed->id);
  EXPECT_EQ(changed->bytes, 16u);
}

TEST(Functions, FullTableRefusesWithoutForgetting) {
  cuda::Functions functions;
  uintptr_t number = 0x2000;
  while (functions.find(api, handle(number), "kernel") != nullptr) number += 2;
  EXPECT_GT(number, 0x2000u + 2 * cuda::Functions::kFunctions / 2);
  functions.forget();
  EXPECT_NE(functions.find(api, handle(0x2000), "kernel"), nullptr);
  EXPECT_EQ(functions.find(api, handle(number), "kernel"), nullptr);
}

TEST(BufferPool, NeverMoreThanItsBudget) {
  cuda::BufferPool pool;
  ASSERT_TRUE(pool.open(4, 1 << 16, 2, true));
  EXPECT_EQ(pool.mapped_bytes(), 2u << 16);
  std::set<uint8_t*> lent;
  for (int i = 0; i < 4; ++i) lent.insert(pool.acquire());
  EXPECT_EQ(lent.size(), 4u);
  uint8_t* discard = pool.acquire();
  EXPECT_EQ(lent.count(discard), 0u);
  EXPECT_EQ(pool.acquire(), discard);
  EXPECT_EQ(pool.take_discarded(), 2u);
  EXPECT_EQ(pool.mapped_bytes(), pool.limit_bytes());
  // What was written is read once and comes back zeroed.
  uint8_t* one = *lent.begin();
  one[5] = 7;
  pool.complete(discard, 100);  // ignored
  pool.complete(one, 100);
  EXPECT_EQ(pool.drain([&](uint8_t* bytes, size_t valid) {
    EXPECT_EQ(bytes, one);
    EXPECT_EQ(valid, 100u);
  }),
            1u);
  EXPECT_EQ(pool.acquire(), one);
  EXPECT_EQ(one[5], 0);
  pool.close();
  EXPECT_EQ(pool.acquire(), discard);
  EXPECT_EQ(pool.take_discarded(), 0u);
}

TEST(BufferPool, NoneIsGivenToThoseWhoCanDoWithout) {
  cuda::BufferPool pool;
  ASSERT_TRUE(pool.open(1, 1 << 16, 1, false));
  uint8_t* only = pool.acquire();
  ASSERT_NE(only, nullptr);
  EXPECT_EQ(pool.acquire(), nullptr);
  EXPECT_EQ(pool.take_discarded(), 1u);
  pool.complete(only, 0);
  pool.close();
  EXPECT_EQ(pool.acquire(), nullptr);
  EXPECT_EQ(pool.take_discarded(), 0u);
}

TEST(CudaCounters, KernelsThatWaitForOtherRanksAreNotMeasured) {
  for (const char* kernel :
       {"ncclDevKernel_AllReduce_Sum_bf16_RING_LL", "_ZN4vllm26cross_device_reduce_1stageIfLi4EEE",
        "_ZN7deep_ep9intranode8dispatchILi8ELi768EEE", "_Z11quickreduceIfE", "barrier_all"}) {
    EXPECT_TRUE(cuda::waits_for_other_ranks(kernel)) << kernel;
  }
  EXPECT_FALSE(cuda::waits_for_other_ranks("_Z4gemmIfEvPT_"));
  EXPECT_FALSE(cuda::waits_for_other_ranks(""));
}

}  // namespace
}  // namespace preserve
