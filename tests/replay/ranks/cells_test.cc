// SPDX-License-Identifier: Apache-2.0
#include "replay/ranks/cells.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <map>

#include "common/error.h"
#include "tests/replay/ranks/fake_ranks.h"
#include "tests/support/errors.h"

namespace preserve {
namespace {

using test::fails_with;
using testing::ElementsAre;

// Ranks that are threads of this process.
struct Board {
  explicit Board(int size) : texts(static_cast<size_t>(size)), meeting(size) {}
  std::vector<std::string> texts;
  std::barrier<> meeting;
};

class ThreadRank final : public test::FakeRank {
 public:
  ThreadRank(Board& board, int rank)
      : FakeRank(rank, static_cast<int>(board.texts.size())), board_(board) {}
  void barrier() const override { board_.meeting.arrive_and_wait(); }
  std::vector<std::string> all_texts(const std::string& text) const override {
    board_.texts[static_cast<size_t>(rank())] = text;
    barrier();
    std::vector<std::string> all = board_.texts;
    barrier();
    return all;
  }

 private:
  Board& board_;
};

std::string joined(const std::vector<int64_t>& ids) {
  std::string text;
  for (const int64_t id : ids) text += std::to_string(id) + " ";
  return text;
}

std::vector<int64_t> separated(const std::string& text) {
  std::vector<int64_t> ids;
  for (size_t at = 0; at < text.size(); at = text.find(' ', at) + 1) {
    ids.push_back(std::stoll(text.substr(at)));
  }
  return ids;
}

CellWork<int64_t> work_of(int threads, int64_t round_ns) {
  return {.threads = threads,
          .round_ns = round_ns,
          .evaluate = [](int64_t id) { return id; },
          .record = [](int64_t) {},
          .to_text = joined,
          .from_text = separated};
}

TEST(RunCells, EachCellIsRecordedOnceWhateverTheRanksAndThreads) {
  for (const int size : {1, 2, 3}) {
    for (const int threads : {1, 3}) {
      for (const int64_t round_ns : {int64_t{0}, int64_t{1'000'000}}) {
        Board board(size);
        std::map<int64_t, int> recorded;  // by rank 0 alone
        std::atomic<int> whole = 0;
        const auto run = [&](int rank) {
          CellWork<int64_t> work = work_of(threads, round_ns);
          if (rank == 0) work.record = [&](int64_t id) { ++recorded[id]; };
          if (run_cells(ThreadRank(board, rank), {{3, 40}, {42, 42}, {50, 101}}, work)) ++whole;
        };
        std::vector<std::thread> others;
        for (int rank = 1; rank < size; ++rank) others.emplace_back(run, rank);
        run(0);
        for (std::thread& other : others) other.join();
        EXPECT_EQ(whole, size);
        std::map<int64_t, int> expected;
        for (int64_t id = 3; id <= 101; ++id) {
          if (id <= 40 || id == 42 || id >= 50) expected[id] = 1;
        }
        EXPECT_EQ(recorded, expected) << size << " ranks, " << threads << " threads";
      }
    }
  }
}

TEST(RunCells, KeepsTheOrderGiven) {
  std::vector<int64_t> recorded;
  CellWork<int64_t> work = work_of(1, 0);
  work.record = [&](int64_t id) { recorded.push_back(id); };
  EXPECT_TRUE(run_cells(LoneRank(), {{7, 7}, {2, 3}, {1, 1}}, work));
  EXPECT_THAT(recorded, ElementsAre(7, 2, 3, 1));
}

TEST(RunCells, WhatWasInterruptedHasNoResult) {
  std::vector<int64_t> recorded;
  bool stop = false;
  CellWork<int64_t> work = work_of(1, 0);
  work.evaluate = [&](int64_t id) -> std::optional<int64_t> {
    stop = id == 3;
    if (stop) return std::nullopt;
    return id;
  };
  work.record = [&](int64_t id) { recorded.push_back(id); };
  work.stop = [&] { return stop; };
  EXPECT_FALSE(run_cells(LoneRank(), {{1, 3}}, work)) << "also when it was the last one";
  EXPECT_THAT(recorded, ElementsAre(1, 2));
}

TEST(RunCells, OneRankThatStopsEndsAll) {
  Board board(3);
  std::atomic<int> evaluated = 0, stopped = 0;
  const auto run = [&](int rank) {
    CellWork<int64_t> work = work_of(1, 0);
    work.evaluate = [&](int64_t id) {
      ++evaluated;
      return id;
    };
    work.stop = [&] { return rank == 2; };
    if (!run_cells(ThreadRank(board, rank), {{1, 1000}}, work)) ++stopped;
  };
  std::thread one(run, 1), two(run, 2);
  run(0);
  one.join();
  two.join();
  EXPECT_EQ(stopped, 3);
  EXPECT_EQ(evaluated, 3) << "one round";
}

TEST(RunCells, PassesOnWhatACellThrows) {
  CellWork<int64_t> work = work_of(3, 1'000'000);
  work.evaluate = [](int64_t id) {
    if (id == 4) throw input_error("the fourth");
    return id;
  };
  EXPECT_THAT([&] { run_cells(LoneRank(), {{1, 10}}, work); }, fails_with("the fourth"));
  work = work_of(3, 1'000'000);
  work.record = [](int64_t id) {
    if (id == 5) throw input_error("not the fifth");
  };
  EXPECT_THAT([&] { run_cells(LoneRank(), {{1, 10}}, work); }, fails_with("not the fifth"));
}

TEST(RunCells, DamagedNotesAreAnError) {
  for (const char* text : {"", "1", "0 3 7 8", "x"}) {
    EXPECT_THAT([text] { read_round_note(text); }, fails_with("no number")) << text;
  }
  const RoundNote note = read_round_note(to_text(RoundNote{true, {4, 9}, "a b"}));
  EXPECT_TRUE(note.stop);
  EXPECT_THAT(note.finished, ElementsAre(4, 9));
  EXPECT_EQ(note.results, "a b");
  EXPECT_EQ(read_round_note(to_text(RoundNote{false, {}, "[]"})).results, "[]");
}

}  // namespace
}  // namespace preserve
