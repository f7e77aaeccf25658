// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

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

}  // namespace
}  // namespace preserve::gpu
