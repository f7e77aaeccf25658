// SPDX-License-Identifier: Apache-2.0
// A rank of tests, alike on all of them: what it hears of the others is what it says.
#pragma once

#include <cstdlib>

#include "replay/ranks/group.h"

namespace preserve::test {

class FakeRank : public Ranks {
 public:
  FakeRank(int rank, int size) : rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int rank_on_host() const override { return rank_; }
  int size_on_host() const override { return size_; }
  std::string library() const override { return "none"; }
  [[noreturn]] void abort(int) const override { std::abort(); }
  void barrier() const override {}
  int64_t max(int64_t value) const override { return value; }
  int64_t min(int64_t value) const override { return value; }
  int64_t sum(int64_t value) const override { return size_ * value; }
  int64_t from_first(int64_t value) const override { return value; }
  std::vector<double> gather(std::span<const double> values) const override {
    std::vector<double> all;
    for (int i = 0; rank_ == 0 && i < size_; ++i) {
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }
  std::vector<std::string> all_texts(const std::string& text) const override {
    return std::vector<std::string>(static_cast<size_t>(size_), text);
  }
  std::unique_ptr<RankCollective> collective(const std::string&, int64_t) const override {
    return nullptr;
  }
  double test_cost_ns(int) const override { return 0; }

 private:
  int rank_, size_;
};

}  // namespace preserve::test
