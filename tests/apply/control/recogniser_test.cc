// SPDX-License-Identifier: Apache-2.0
#include "apply/control/recogniser.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string_view>
#include <vector>

namespace preserve::apply {
namespace {

PlanCollective planned(int64_t bytes, uint16_t function = 0, uint32_t ranks = 2,
                       std::string_view type = "MPI_FLOAT", uint8_t messages = kEither) {
  PlanCollective collective{};
  collective.bytes = bytes;
  collective.function = function;
  collective.ranks = ranks;
  collective.after_messages = messages;
  collective.type_bytes = static_cast<uint8_t>(type.size());
  std::memcpy(collective.type, type.data(), type.size());
  return collective;
}
Collective call(int64_t bytes, uint16_t function = 0, uint32_t ranks = 2,
                std::string_view type = "MPI_FLOAT", bool messages = false) {
  return {bytes, ranks, function, type, messages};
}

// Feeds calls written as letters: a, b, c ... are collectives of 1, 2, 3 ... bytes.
class Sequence {
 public:
  explicit Sequence(std::string_view step) : Sequence(collectives(step)) {}
  explicit Sequence(std::vector<PlanCollective> step)
      : step_(std::move(step)),
        memory_(Recogniser::memory_entries(step_.size())),
        recogniser_(step_, memory_) {}
  Recogniser& recogniser() { return recogniser_; }
  // A letter per call: the position while locked, L where it locks, ! at a surprise, else a dot.
  std::string feed(std::string_view calls) {
    std::string seen;
    for (const char letter : calls) seen += feed(call(letter - 'a' + 1));
    return seen;
  }
  // Three times each of `calls`.
  std::string feed_thrice(const std::vector<Collective>& calls) {
    std::string seen;
    for (int i = 0; i < 3; ++i) {
      for (const Collective& one : calls) seen += feed(one);
    }
    return seen;
  }
  char feed(const Collective& collective) {
    last_ = recogniser_.next(collective);
    if (last_.surprise) return '!';
    if (last_.locks) return 'L';
    return last_.position ? static_cast<char>('0' + *last_.position) : '.';
  }
  const Recogniser::Seen& last() const { return last_; }

 private:
  static std::vector<PlanCollective> collectives(std::string_view letters) {
    std::vector<PlanCollective> made;
    for (const char letter : letters) made.push_back(planned(letter - 'a' + 1));
    return made;
  }
  std::vector<PlanCollective> step_;
  std::vector<uint32_t> memory_;
  Recogniser recogniser_;
  Recogniser::Seen last_;
};

TEST(Recogniser, LocksAfterTwoWholeRepetitionsAndUnlocksAtASurprise) {
  const struct {
    const char *name, *step, *calls, *seen;
  } cases[] = {{"two whole repetitions", "aab", "aabaabaabaab", ".....L012012"},
               {"begun in the middle of a step", "aab", "abaabaabaab", ".......L012"},
               {"other shapes before it", "aab", "zzzzxaaabaabaab", "...........L012"},
               {"a missing collective", "aabc", "aabcaabcaabcabcaabcaabcaabc",
                ".......L01230!........L0123"},
               {"an extra collective", "ab", "abababaabab", "...L010!..L"},
               {"reordered collectives", "abc", "abcabcabcacbabcabcabc", ".....L0120!......L012"},
               // After "aabaa" another a: the last two a may begin the step.
               {"a wrong start", "aab", "aabaaabaabaab", ".........L012"}};
  for (const auto& [name, step, calls, seen] : cases) {
    EXPECT_EQ(Sequence(step).feed(calls), seen) << name;
  }
}

TEST(Recogniser, SaysWhatTheSurpriseWas) {
  const std::vector<PlanCollective> step = {planned(1), planned(2)};
  const auto surprise = [&](const Collective& odd) {
    Sequence sequence(step);
    sequence.feed("abab");
    EXPECT_TRUE(sequence.recogniser().is_locked());
    sequence.feed(odd);
    EXPECT_FALSE(sequence.recogniser().is_locked());
    return sequence.last().surprise;
  };
  EXPECT_EQ(surprise(call(9)), Surprise::bytes);
  EXPECT_EQ(surprise(call(1, 5)), Surprise::function);
  EXPECT_EQ(surprise(call(1, 0, 4)), Surprise::communicator);
  EXPECT_EQ(surprise(call(1, 0, 2, "MPI_DOUBLE")), Surprise::type);
}

TEST(Recogniser, TellsSubCommunicatorsApart) {
  Sequence sequence({planned(1, 0, 2), planned(1, 0, 4)});
  EXPECT_EQ(sequence.feed_thrice({call(1, 0, 4), call(1, 0, 2)}), "....L0");
}

TEST(Recogniser, TakesMessagesInBetweenForPartOfTheStep) {
  Sequence sequence({planned(8, 0, 2, "MPI_DOUBLE", kYes), planned(8, 0, 2, "MPI_DOUBLE", kNo)});
  EXPECT_FALSE(sequence.recogniser().is_ambiguous());
  const Collective behind = call(8, 0, 2, "MPI_DOUBLE", true);
  const Collective alone = call(8, 0, 2, "MPI_DOUBLE", false);
  EXPECT_EQ(sequence.feed(alone), '.');
  EXPECT_EQ(sequence.feed_thrice({behind, alone}), "...L01");
  sequence.feed(alone);
  EXPECT_EQ(sequence.last().surprise, Surprise::messages);
}

TEST(Recogniser, TakesAnySizeWhereRanksDiffer) {
  Sequence sequence({planned(kAnyBytes), planned(2, 1)});
  std::string seen;
  for (int64_t i = 0; i < 3; ++i) {
    seen += sequence.feed(call(100 + i));
    seen += sequence.feed(call(2, 1));
  }
  EXPECT_EQ(seen, "...L01");
}

// Locked one collective off, the windows would be the wrong ones.
TEST(Recogniser, RefusesAStepThatRepeatsWithinItself) {
  for (const std::string_view step : {"aa", "abab", "aabaab"}) {
    Sequence sequence(step);
    EXPECT_TRUE(sequence.recogniser().is_ambiguous()) << step;
    EXPECT_EQ(sequence.feed("abababababab").find('L'), std::string::npos);
  }
  for (const std::string_view step : {"a", "ab", "aab", "aabaaab"}) {
    EXPECT_FALSE(Sequence(step).recogniser().is_ambiguous()) << step;
  }
  // An entry for any size is like its neighbour.
  EXPECT_TRUE(Sequence({planned(kAnyBytes), planned(2)}).recogniser().is_ambiguous());
}

TEST(Recogniser, BeginsAnewWhenToldTo) {
  Sequence sequence("ab");
  EXPECT_EQ(sequence.feed("abab"), "...L");
  sequence.recogniser().forget();
  EXPECT_EQ(sequence.feed("ababa"), "...L0");
}

}  // namespace
}  // namespace preserve::apply
