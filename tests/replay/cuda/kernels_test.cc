// SPDX-License-Identifier: Apache-2.0
// The kernels of the CUDA device, emulated on the CPU: which bytes they read, sum, ask for and
// store.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "replay/cuda/kernels/kernels.h"
#include "replay/cuda/step/range_table.h"
#include "tests/replay/cuda/emulated_gpu.h"

namespace preserve::cuda {
namespace {

using emulated::kSms;

// Memory aligned as allocate() aligns it, holding the pattern.
class Memory {
 public:
  explicit Memory(size_t bytes)
      : bytes_(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{4096}))),
        size_(bytes) {
    for (size_t at = 0; at < bytes; at += 4) {
      const uint32_t word = gpu_pattern_word(at);
      std::memcpy(bytes_ + at, &word, 4);
    }
  }
  ~Memory() { ::operator delete (bytes_, std::align_val_t{4096}); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  GpuAddress address() const { return reinterpret_cast<GpuAddress>(bytes_); }
  std::byte* data() { return bytes_; }
  size_t size() const { return size_; }
  template <typename T>
  T at(size_t offset) const {
    T value;
    std::memcpy(&value, bytes_ + offset, sizeof(value));
    return value;
  }

 private:
  std::byte* bytes_;
  size_t size_;
};

// The library has the kernels' own type; a pointer to a function may be cast there and back.
template <typename... Of>
void launch(const Kernel& kernel, unsigned blocks, Of... arguments) {
  auto* function = reinterpret_cast<void (*)(Of...)>(const_cast<void*>(kernel.function));
  emulated::launch(blocks, static_cast<unsigned>(kernel.threads), [&] { function(arguments...); });
}

// A node, with everything it may need in host memory.
struct Bench {
  DeviceImage image;
  size_t reads = 0, writes = 0;
  StampSlot slot{kNever, 0, 0, 0, 0};
  Shares shares{};
  StepTotals totals{};
  ClockRate clock{0, 0, 0, emulated::kCyclesPerNs};
  std::vector<uint8_t> halves;
  NodeArgs args{};

  Bench(const std::vector<GpuRange>& to_read, const std::vector<GpuRange>& to_write,
        uint64_t unit_bytes, bool lines = false) {
    reads = image.add_table(to_read, unit_bytes, lines);
    writes = image.add_table(to_write, kReadUnitBytes, false);
    args.reads = reinterpret_cast<const RangeTable*>(&image.bytes()[reads]);
    args.writes = reinterpret_cast<const RangeTable*>(&image.bytes()[writes]);
    args.slot = &slot;
    args.clock = &clock;
    args.sums = totals.sums;
    args.wrap_pages = ~0U;
    args.chunk_bytes = static_cast<uint32_t>(unit_bytes);  // where prefetches are by bulk requests
    for (unsigned sm = 0; sm < kSms; ++sm) halves.push_back(static_cast<uint8_t>(1 + sm % 2));
  }
  void on_half(uint32_t half, uint32_t places) {
    args.sm_halves = halves.data();
    args.sms = kSms;
    args.half = half;
    args.places = places;
    args.shares = &shares;
  }
  void run(const Kernel& kernel, unsigned blocks) {
    emulated::requests().clear();
    launch(kernel, blocks, args);
  }
  uint64_t checksum() const {
    uint64_t sum = 0;
    for (const uint64_t word : totals.sums) sum += word;
    return sum;
  }
};

uint64_t sum_of(const std::vector<GpuRange>& ranges, uint64_t wrap_bytes) {
  uint64_t sum = 0;
  for (const GpuRange& range : ranges) {
    for (uint64_t at = 0; at < static_cast<uint64_t>(range.bytes); at += 4) {
      uint32_t word;
      const uint64_t place = wrap_bytes == 0 ? at : at % wrap_bytes;
      std::memcpy(&word, reinterpret_cast<const void*>(range.address + place), 4);
      sum += word;
    }
  }
  return sum;
}

// How often each 16 bytes were asked for.
std::map<uint64_t, int> times_asked() {
  std::map<uint64_t, int> times;
  for (const emulated::Request& request : emulated::requests()) {
    for (uint64_t at = 0; at < request.bytes; at += 16) ++times[request.address + at];
  }
  return times;
}
std::map<uint64_t, int> once_each(const std::vector<GpuRange>& ranges) {
  std::map<uint64_t, int> times;
  for (const GpuRange& range : ranges) {
    for (int64_t at = 0; at < range.bytes; at += 16) {
      ++times[range.address + static_cast<uint64_t>(at)];
    }
  }
  return times;
}

std::vector<GpuRange> some_ranges(const Memory& memory) {
  const GpuAddress base = memory.address();
  return {{base, 40'000}, {base + 65'536, 16}, {base + 131'072, 16'384}, {base + 163'840, 50'000}};
}

struct ReadKernel : testing::TestWithParam<unsigned> {
  const Memory memory{256 << 10};
  const std::vector<GpuRange> ranges = some_ranges(memory);
};

TEST_P(ReadKernel, SumsEveryWordOnce) {
  Bench bench(ranges, {}, kReadUnitBytes);
  bench.run(read_kernel(false), GetParam());
  EXPECT_EQ(bench.checksum(), sum_of(ranges, 0));
  EXPECT_EQ(times_asked(), once_each(ranges));
}

TEST_P(ReadKernel, WrappedItReadsThePatternAsOften) {
  for (const uint64_t pages : {1, 3, 4, 64}) {
    Bench bench(ranges, {}, kReadUnitBytes);
    bench.args.wrap_pages = static_cast<uint32_t>(pages);
    bench.run(read_kernel(false), GetParam());
    EXPECT_EQ(bench.checksum(), sum_of(ranges, pages * 4096)) << pages;
    EXPECT_EQ(bench.checksum(), sum_of(ranges, 0)) << pages;  // it is periodic
    for (const emulated::Request& request : emulated::requests()) {
      ASSERT_TRUE(std::any_of(ranges.begin(), ranges.end(), [&](const GpuRange& range) {
        return request.address >= range.address && request.address < range.address + pages * 4096;
      }));
    }
  }
}

TEST_P(ReadKernel, OnHalfOfTheSms) {
  Bench bench(ranges, {{memory.address() + 229'376, 20'000}}, kReadUnitBytes);
  bench.on_half(2, 0);
  bench.run(read_kernel(true), GetParam() + kSms);
  EXPECT_EQ(bench.checksum(), sum_of(ranges, 0));
  EXPECT_EQ(times_asked(), once_each(ranges));
  EXPECT_EQ(bench.shares.arrived, GetParam() + kSms);
  for (const emulated::Request& request : emulated::requests()) {
    ASSERT_EQ(bench.halves[request.sm], 2);
  }
}

INSTANTIATE_TEST_SUITE_P(Blocks, ReadKernel, testing::Values(1U, 2U, 5U, 16U, 40U));

RC_GTEST_PROP(ReadKernels, SumIsThatOfTheHost, ()) {
  const Memory memory(1 << 20);
  std::vector<GpuRange> ranges;
  // Few long ones, or many short ones among which a block has to search.
  const bool many = *rc::gen::arbitrary<bool>();
  const int count = *rc::gen::inRange(0, many ? 300 : 6);
  for (int i = 0; i < count; ++i) {
    const auto begin = static_cast<uint64_t>(*rc::gen::inRange(0, 30'000)) * 16;
    ranges.push_back({memory.address() + begin, *rc::gen::inRange(1, many ? 20 : 4'000) * 16});
  }
  Bench bench(ranges, {}, kReadUnitBytes);
  bench.run(read_kernel(false), static_cast<unsigned>(*rc::gen::inRange(1, 20)));
  RC_ASSERT(bench.checksum() == sum_of(ranges, 0));
}

TEST(ReadKernels, WritesThePatternAndNothingElse) {
  Memory memory(256 << 10);
  const Memory untouched(256 << 10);
  const std::vector<GpuRange> writes{{memory.address() + 4096 + 48, 40'000},
                                     {memory.address() + 131'072, 16}};
  for (const GpuRange& range : writes) {
    std::memset(memory.data() + (range.address - memory.address()), 0,
                static_cast<size_t>(range.bytes));
  }
  Bench bench({}, writes, kReadUnitBytes);
  bench.run(read_kernel(false), 3);
  EXPECT_EQ(
      std::memcmp(memory.data(), reinterpret_cast<const void*>(untouched.address()), memory.size()),
      0);
  EXPECT_EQ(bench.checksum(), 0U);
}

TEST(ReadKernels, WaitsAndIsTimedBetweenTheWaits) {
  const Memory memory(64 << 10);
  Bench bench({{memory.address(), 16'384}}, {}, kReadUnitBytes);
  bench.args.wait_before_ns = 50'000;
  bench.args.wait_after_ns = 20'000;
  const uint64_t begin = emulated::timer_ns();
  bench.run(read_kernel(false), 1);
  EXPECT_NEAR(static_cast<double>(bench.slot.first - begin), 50'000, 1000);
  EXPECT_NEAR(static_cast<double>(bench.slot.last - bench.slot.first), 20'000, 1000);
}

struct Method {
  GpuFetch fetch;
  uint64_t unit_bytes;
};
void PrintTo(const Method& method, std::ostream* out) {
  *out << static_cast<int>(method.fetch) << " by " << method.unit_bytes;
}
class PrefetchKernel : public testing::TestWithParam<Method> {
 protected:
  // What must be asked for: line by line, whole lines.
  std::vector<GpuRange> expected(std::vector<GpuRange> ranges) const {
    if (GetParam().fetch != GpuFetch::prefetch_l2) return ranges;
    for (GpuRange& range : ranges) {
      const GpuAddress end = (range.address + static_cast<GpuAddress>(range.bytes) + 127) & ~127ULL;
      range.address &= ~GpuAddress{127};
      range.bytes = static_cast<int64_t>(end - range.address);
    }
    return ranges;
  }
  bool lines() const { return GetParam().fetch == GpuFetch::prefetch_l2; }
};

TEST_P(PrefetchKernel, AsksForEveryByteOnce) {
  const Memory memory(512 << 10);
  std::vector<GpuRange> ranges = some_ranges(memory);
  ranges.push_back({memory.address() + 262'144 + 144, 200'000});
  for (const GpuEviction eviction : {GpuEviction::normal, GpuEviction::last}) {
    for (const unsigned blocks : {1U, 3U, 16U}) {
      Bench bench(ranges, {}, GetParam().unit_bytes, lines());
      bench.run(prefetch_kernel(GetParam().fetch, eviction, false), blocks);
      EXPECT_EQ(times_asked(), once_each(expected(ranges))) << blocks;
      for (const emulated::Request& request : emulated::requests()) {
        ASSERT_EQ(request.kept, eviction == GpuEviction::last);
        ASSERT_EQ(request.address % 16, 0U);
        ASSERT_EQ(request.bytes % 16, 0U);
      }
      EXPECT_EQ(bench.slot.last, 0U);  // not timed: it stores nothing
      EXPECT_EQ(bench.checksum(), 0U);
    }
  }
}

TEST_P(PrefetchKernel, OnHalfOfTheSmsNoMoreBlocksThanPlaces) {
  const Memory memory(512 << 10);
  const std::vector<GpuRange> ranges = some_ranges(memory);
  Bench bench(ranges, {}, GetParam().unit_bytes, lines());
  bench.on_half(1, 2);
  bench.run(prefetch_kernel(GetParam().fetch, GpuEviction::normal, true), 2 * kSms);
  EXPECT_EQ(times_asked(), once_each(expected(ranges)));
  EXPECT_EQ(bench.shares.arrived, 2 * kSms);
  EXPECT_EQ(bench.shares.place, kSms);  // this many would have stayed
  std::set<unsigned> sms;
  for (const emulated::Request& request : emulated::requests()) sms.insert(request.sm);
  EXPECT_THAT(sms, testing::IsSubsetOf({0U, 2U}));  // the first two that came
}

TEST_P(PrefetchKernel, WithAnEmptyTableNothingHappens) {
  Bench bench({}, {}, GetParam().unit_bytes, lines());
  bench.run(prefetch_kernel(GetParam().fetch, GpuEviction::normal, false), 16);
  EXPECT_TRUE(emulated::requests().empty());
}

INSTANTIATE_TEST_SUITE_P(Methods, PrefetchKernel,
                         testing::Values(Method{GpuFetch::bulk_l2, 128},
                                         Method{GpuFetch::bulk_l2, 4096},
                                         Method{GpuFetch::bulk_l2, 65'536},
                                         Method{GpuFetch::prefetch_l2, kLineUnitBytes},
                                         Method{GpuFetch::load, kLoadUnitBytes}));

TEST(PrefetchKernels, HeadFirst) {
  const Memory memory(512 << 10);
  const std::vector<GpuRange> ranges{{memory.address() + 262'144, 131'072},
                                     {memory.address(), 131'072}};
  Bench bench(ranges, {}, 4096);
  bench.run(prefetch_kernel(GpuFetch::bulk_l2, GpuEviction::normal, false), 1);
  std::vector<uint64_t> asked;
  for (const emulated::Request& request : emulated::requests()) asked.push_back(request.address);
  std::vector<uint64_t> in_order;
  for (const GpuRange& range : ranges) {
    for (uint64_t at = 0; at < 131'072; at += 4096) in_order.push_back(range.address + at);
  }
  EXPECT_EQ(asked, in_order);
}

TEST(StandInKernel, HoldsItsTimeAndMovesItsBytes) {
  Memory buffer(64 << 10);
  std::memset(buffer.data(), 0xEE, buffer.size());
  Bench bench({}, {}, kReadUnitBytes);
  bench.args.link = buffer.data();
  bench.args.link_mask = 32 * 1024 / 16 - 1;
  bench.args.link_words = 40 * 1024 / 16;  // round the buffer
  bench.args.hold_ns = 100'000;
  bench.run(stand_in_kernel(), 1);
  EXPECT_NEAR(static_cast<double>(bench.slot.last - bench.slot.first), 100'000, 5000);
  for (size_t at = 0; at < buffer.size(); at += 8) {
    ASSERT_EQ(buffer.at<uint64_t>(at) == 0xEEEEEEEEEEEEEEEE, at >= 32 * 1024) << at;
  }
}

TEST(StandInKernel, WithoutBytesOnlyTheTime) {
  Bench bench({}, {}, kReadUnitBytes);
  bench.args.hold_ns = 30'000;
  bench.run(stand_in_kernel(), 1);
  EXPECT_NEAR(static_cast<double>(bench.slot.last - bench.slot.first), 30'000, 2000);
}

TEST(ChaseKernel, FollowsTheChainOfLinkedLines) {
  constexpr uint64_t kLines = 100;
  const Memory memory(kLines * kLineBytes);
  std::vector<uint64_t> next(kLines);
  for (uint64_t i = 0; i < kLines; ++i) next[i] = (i + 37) % kLines;
  launch(link_kernel(), 2, memory.address(), std::as_const(next).data(), kLines);
  Bench bench({}, {}, kReadUnitBytes);
  bench.args.chain = memory.address();
  bench.args.chain_lines = kLines;
  bench.args.hops = kLines;
  bench.run(chase_kernel(false), 1);
  std::set<uint64_t> lines;
  for (const emulated::Request& request : emulated::requests()) lines.insert(request.address);
  EXPECT_EQ(emulated::requests().size(), kLines);
  EXPECT_EQ(lines.size(), kLines);  // each once
}

TEST(FillKernel, IsThePattern) {
  Memory memory(20 * 4096);
  const Memory pattern(20 * 4096);
  std::memset(memory.data(), 0, memory.size());
  launch(fill_kernel(), 3, memory.address(), uint64_t{memory.size() - 16});
  EXPECT_EQ(std::memcmp(memory.data(), reinterpret_cast<const void*>(pattern.address()),
                        memory.size() - 16),
            0);
  EXPECT_EQ(memory.at<uint64_t>(memory.size() - 8), 0U);
}

// The books of three nodes over several steps.
class Books : public testing::Test {
 protected:
  Books() {
    args_ = {slots_.data(), &shares_, &totals_, &clock_, static_cast<uint32_t>(slots_.size()), 1};
    slots_[1].wait_before_ns = 30;
    run(opening_kernel());
  }
  void run(const Kernel& kernel) { launch(kernel, 1, args_); }
  void step(uint64_t begin, uint64_t sum) {
    slots_[0].first = begin + 40;
    slots_[0].last = begin + 100;
    slots_[1].first = begin + 30;  // begins the step, then waits
    slots_[1].last = begin + 300;
    slots_[2].first = begin + 300;
    slots_[2].last = begin + 350;
    totals_.sums[0] += sum;
    totals_.sums[3 * kSumStride] += 5;
    shares_.place = shares_.arrived = 7;
    shares_.read_ticket = 9;
  }
  std::vector<StampSlot> slots_{3};
  Shares shares_{};
  StepTotals totals_{};
  ClockRate clock_{0, 0, 0, 1.5F};
  ClosingArgs args_{};
};

TEST_F(Books, SumsSinceTheBeginningOfEachStep) {
  for (int i = 0; i < 4; ++i) {
    step(1'000'000 + 5000 * static_cast<uint64_t>(i), 1000);
    run(closing_kernel());
    EXPECT_EQ(slots_[2].first, kNever);  // ready for the next
    EXPECT_EQ(slots_[2].last, 0U);
    EXPECT_EQ(shares_.arrived + shares_.place + shares_.read_ticket, 0U);
  }
  EXPECT_EQ(totals_.steps, 4U);
  EXPECT_EQ(totals_.checksum, 1005U);
  EXPECT_EQ(totals_.differing_steps, 0U);
  EXPECT_EQ(totals_.missing_stamps, 0U);
  EXPECT_EQ(slots_[0].sum_first, 4 * 40U);
  EXPECT_EQ(slots_[1].sum_first, 4 * 30U);
  EXPECT_EQ(slots_[2].sum_last, 4 * 350U);
  run(opening_kernel());
  EXPECT_EQ(totals_.steps + slots_[0].sum_first + slots_[2].sum_last, 0U);
}

TEST_F(Books, OtherBytesInOneStepAreNoticed) {
  step(1'000'000, 1000);
  run(closing_kernel());
  step(1'010'000, 1001);
  run(closing_kernel());
  EXPECT_EQ(totals_.differing_steps, 1U);
}

TEST_F(Books, NodeThatDidNotRunIsNoticed) {
  step(1'000'000, 1000);
  slots_[1].first = kNever;
  slots_[1].last = 0;
  run(closing_kernel());
  EXPECT_EQ(totals_.missing_stamps, 1U);
  EXPECT_EQ(slots_[2].sum_first, 260U);  // counted from the first that did
}

TEST_F(Books, ClockIsComparedWithTheTimer) {
  EXPECT_NEAR(clock_.cycles_per_ns, emulated::kCyclesPerNs, 0.01);  // when the run began
  clock_.cycles_per_ns = 1.5F;
  run(closing_kernel());  // the first has nothing to compare with
  EXPECT_EQ(clock_.cycles_per_ns, 1.5F);
  for (int i = 0; i < 25'000; ++i) emulated::timer_ns();  // 250 us
  run(closing_kernel());
  EXPECT_NEAR(clock_.cycles_per_ns, emulated::kCyclesPerNs, 0.01);
}

TEST(SmLatencyKernel, OnlyOnTheSmThatIsMeant) {
  uint64_t self = 0;
  self = reinterpret_cast<uint64_t>(&self);
  uint64_t answer[2]{};
  launch(sm_latency_kernel(), 4, answer, 5U, self, 16U);  // SMs 0 to 3
  EXPECT_EQ(answer[0], 0U);
  launch(sm_latency_kernel(), 16, answer, 5U, self, 16U);
  EXPECT_EQ(answer[0], 1U);
  EXPECT_GT(answer[1], 0U);
}

}  // namespace
}  // namespace preserve::cuda
