// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

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

}  // namespace
}  // namespace preserve::gpu
