// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <vector>

#include "profiler/gpu/packed_records.h"
#include "profiler/gpu/record_log.h"
#include "profiler/gpu/record_sorter.h"

namespace preserve::gpu {
namespace {

struct Less {
  bool operator()(int64_t a, int64_t b) const { return a < b; }
};

RC_GTEST_PROP(RecordSorter, SortsWhateverFitsInMemoryOrNot, ()) {
  const auto values = *rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(-50, 50));
  // Batches of a few records: with most inputs there are several runs on disk.
  RecordSorter<int64_t, Less> sorter(sizeof(int64_t) *
                                     static_cast<size_t>(*rc::gen::inRange(1, 20)));
  for (const int64_t value : values) sorter.add(value);
  RC_ASSERT(sorter.size() == values.size());
  sorter.sort();
  std::vector<int64_t> sorted, expected = values;
  for (int64_t value = 0; sorter.next(value);) sorted.push_back(value);
  std::sort(expected.begin(), expected.end());
  RC_ASSERT(sorted == expected);
}

TEST(RecordSorter, MergesManyRuns) {
  RecordSorter<int64_t, Less> sorter(1000 * sizeof(int64_t));
  constexpr int64_t kCount = 100'000;
  for (int64_t i = 0; i < kCount; ++i) sorter.add(i * 7919 % kCount);
  sorter.sort();
  int64_t value = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(sorter.next(value));
    ASSERT_EQ(value, i);
  }
  EXPECT_FALSE(sorter.next(value));
}

RC_GTEST_PROP(RecordLog, GivesBackAnyPartAsOftenAsAsked, ()) {
  RecordLog<int64_t> log(sizeof(int64_t) * *rc::gen::inRange<size_t>(1, 2000));
  const auto count = *rc::gen::inRange<size_t>(0, 5000);  // more than a pass reads ahead
  for (size_t i = 0; i < count; ++i) log.add(static_cast<int64_t>(i));
  RC_ASSERT(log.size() == count);
  const auto end = *rc::gen::inRange<size_t>(0, count + 1);
  const auto first = *rc::gen::inRange<size_t>(0, end + 1);
  RecordLog<int64_t>::Pass pass(log, first, end), other(log, 0, count);
  int64_t record = 0;
  for (size_t i = first; i < end; ++i) {
    RC_ASSERT(pass.next(record) && record == static_cast<int64_t>(i));
    RC_ASSERT(other.next(record) && record == static_cast<int64_t>(i - first));
  }
  RC_ASSERT(!pass.next(record));
}

// A record of an odd number of words, and one of an even number.
template <size_t kWords>
void comes_back_as_it_was() {
  using Record = std::array<uint64_t, kWords>;
  const auto word = rc::gen::oneOf(rc::gen::inRange<uint64_t>(0, 3), rc::gen::arbitrary<uint64_t>(),
                                   rc::gen::just(UINT64_MAX));
  const auto few = *rc::gen::container<std::vector<Record>>(rc::gen::container<Record>(word));
  std::vector<Record> records;  // several blocks, the last mostly not full
  const auto count = few.empty() ? 0 : *rc::gen::inRange<size_t>(0, 3 * PackedRecords::kBlock);
  for (size_t i = 0; i < count; ++i) records.push_back(few[i * i % few.size()]);
  PackedRecords packed(sizeof(Record));
  packed.append(records.data(), records.size());
  packed.append(records.data(), records.size());
  std::vector<Record> back(2 * records.size());
  const size_t half = packed.blocks() / 2;
  for (size_t block = packed.blocks(); block-- > 0;) {
    const size_t first = block % std::max<size_t>(1, half) * PackedRecords::kBlock;
    packed.read(block, std::min(PackedRecords::kBlock, records.size() - first),
                back.data() + (block < half ? 0 : records.size()) + first);
  }
  for (size_t i = 0; i < back.size(); ++i) RC_ASSERT(back[i] == records[i % records.size()]);
}
RC_GTEST_PROP(PackedRecords, ComeBackAsTheyWere, ()) {
  comes_back_as_it_was<1>();
  comes_back_as_it_was<4>();
  comes_back_as_it_was<15>();
}

}  // namespace
}  // namespace preserve::gpu
