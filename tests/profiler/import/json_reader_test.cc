// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "profiler/import/json_reader.h"
#include "tests/support/errors.h"

namespace preserve::import {
namespace {

using nlohmann::json;

// Hands out at most `chunk` bytes at a time, so that every token meets a window's end sooner or
// later.
class Dribble : public ByteSource {
 public:
  Dribble(std::string text, size_t chunk) : text_(std::move(text)), chunk_(chunk) {}
  size_t read(char* out, size_t size) override {
    const size_t count = std::min({size, chunk_, text_.size() - at_});
    text_.copy(out, count, at_);
    at_ += count;
    return count;
  }

 private:
  std::string text_;
  size_t chunk_, at_ = 0;
};

// A reader of such a text.
struct Dribbled : Dribble, JsonReader {
  Dribbled(std::string text, size_t chunk, std::string name = "text",
           size_t window = kDefaultWindow)
      : Dribble(std::move(text), chunk), JsonReader(*this, std::move(name), window) {}
};

// Endless repetition of one piece, up to a total: texts larger than memory.
class Repeat : public ByteSource {
 public:
  Repeat(std::string head, std::string piece, uint64_t total, std::string tail)
      : head_(std::move(head)), piece_(std::move(piece)), tail_(std::move(tail)), left_(total) {}
  size_t read(char* out, size_t size) override {
    if (!head_.empty()) return give(head_, out, size);
    if (left_ > 0) {
      const size_t count = std::min<uint64_t>({size, piece_.size() - at_, left_});
      piece_.copy(out, count, at_);
      at_ = (at_ + count) % piece_.size();
      left_ -= count;
      return count;
    }
    return give(tail_, out, size);
  }

 private:
  static size_t give(std::string& from, char* out, size_t size) {
    const size_t count = std::min(size, from.size());
    from.copy(out, count);
    from.erase(0, count);
    return count;
  }
  std::string head_, piece_, tail_;
  uint64_t left_;
  size_t at_ = 0;
};

json read_value(JsonReader& reader) {
  switch (reader.peek()) {
    case '{': {
      json object = json::object();
      reader.begin_object();
      std::string_view key;
      while (reader.next_key(key)) {
        const std::string name(key);
        object[name] = read_value(reader);
      }
      return object;
    }
    case '[': {
      json array = json::array();
      reader.begin_array();
      while (reader.next_element()) array.push_back(read_value(reader));
      return array;
    }
    case '"':
      return std::string(reader.string());
    default: {
      int64_t value = 0;
      if (reader.integer(value)) return value;
      return nullptr;
    }
  }
}

rc::Gen<json> any_json(int depth) {
  const auto text = rc::gen::map(rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127)),
                                 [](const std::string& value) { return json(value); });
  const auto number = rc::gen::map(rc::gen::inRange<int64_t>(-1'000'000'000, 1'000'000'000),
                                   [](int64_t value) { return json(value); });
  if (depth == 0) return rc::gen::oneOf(text, number, rc::gen::just(json(nullptr)));
  const auto inner = any_json(depth - 1);
  const auto array = rc::gen::map(rc::gen::container<std::vector<json>>(inner),
                                  [](const std::vector<json>& values) { return json(values); });
  const auto key = rc::gen::container<std::string>(rc::gen::inRange<char>('a', 'z'));
  const auto object = rc::gen::map(rc::gen::container<std::map<std::string, json>>(key, inner),
                                   [](const auto& values) {
                                     json out = json::object();
                                     for (const auto& [name, value] : values)
                                       out[name.substr(0, 60)] = value;
                                     return out;
                                   });
  return rc::gen::oneOf(text, number, array, object);
}

// From less than a token to several objects at a time.
size_t any_chunk() {
  return static_cast<size_t>(*rc::gen::inRange(1, 50) * *rc::gen::element(1, 20));
}

RC_GTEST_PROP(JsonReader, ReadsWhatAnotherParserReads, ()) {
  const json document = *any_json(3);
  const int indent = *rc::gen::element(-1, 0, 3);
  const std::string text = document.dump(indent);
  // Larger than the longest string, small enough that the window moves all the time.
  const size_t window = text.size() < 200 ? text.size() + 64 : 200 + text.size() / 4;
  Dribbled reader(text, any_chunk(), "text", window);
  const json read = read_value(reader);
  if (reader.strings_cut() == 0) RC_ASSERT(read == document);
  RC_ASSERT(reader.peek() == '\0');
}

RC_GTEST_PROP(JsonReader, SkipsExactlyOneValue, ()) {
  const json skipped = *any_json(3);
  const std::string text = "[" + skipped.dump() + ", 42]";
  Dribbled reader(text, any_chunk(), "text", 64 + static_cast<size_t>(*rc::gen::inRange(0, 400)));
  reader.begin_array();
  RC_ASSERT(reader.next_element());
  if (*rc::gen::arbitrary<bool>()) {
    const std::string_view raw = reader.raw_value();
    if (!raw.empty()) RC_ASSERT(json::parse(raw) == skipped);
  } else {
    reader.skip_value();
  }
  RC_ASSERT(reader.next_element());
  int64_t value = 0;
  RC_ASSERT(reader.integer(value));
  RC_ASSERT(value == 42);
  RC_ASSERT(!reader.next_element());
}

std::pair<int64_t, int> decimal_of(const std::string& text) {
  Dribbled reader(text, 3);
  int64_t whole = -1;
  int thousandths = -1;
  if (!reader.decimal(whole, thousandths)) return {-1, -1};
  return {whole, thousandths};
}

TEST(JsonReader, DecimalsAreExact) {
  EXPECT_EQ(decimal_of("4458676522690.655 "), std::pair(int64_t{4458676522690}, 655));
  EXPECT_EQ(decimal_of("1669783687464181 "), std::pair(int64_t{1669783687464181}, 0));
  EXPECT_EQ(decimal_of("0.07 "), std::pair(int64_t{0}, 70));
  EXPECT_EQ(decimal_of("12.3456789 "), std::pair(int64_t{12}, 345));
  EXPECT_EQ(decimal_of("-3.5 "), std::pair(int64_t{-3}, -500));
  EXPECT_EQ(decimal_of("1.5e3 "), std::pair(int64_t{1500}, 0));
  EXPECT_EQ(decimal_of("\"1700000000000123.456\" "), std::pair(int64_t{1700000000000123}, 456));
}

TEST(JsonReader, NumbersThatDoNotFitAreRefused) {
  for (const char* text :
       {"99999999999999999999999999 ", "1e400 ", "-1e400 ", "\"12b\" ", "\"\" ", "null ", "NaN "}) {
    EXPECT_EQ(decimal_of(text), std::pair(int64_t{-1}, -1)) << text;
  }
}

TEST(JsonReader, EscapesAreResolved) {
  Dribbled reader(R"("a\"b\\c\/\n\u00e9\ud83d\ude00")", 1);
  EXPECT_EQ(reader.string(), "a\"b\\c/\n\u00e9\U0001F600");
}

TEST(JsonReader, BytesOfZeroAreOrdinaryInStrings) {
  const std::string text("\"a\0b\"", 5);
  Dribbled reader(text, 2);
  EXPECT_EQ(reader.string(), std::string_view("a\0b", 3));
}

TEST(JsonReader, AMillionLevelsCostNoStack) {
  Repeat source("[", "[[[[[[[[[[", 1'000'000, "");
  JsonReader reader(source, "deep.json");
  EXPECT_THAT([&] { reader.skip_value(); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("stops in the middle")));
  std::string closed(1'000'000, '[');
  closed += std::string(1'000'000, ']');
  Dribbled again(closed + " 7", 1 << 16, "deep.json");
  again.skip_value();
  int64_t value = 0;
  EXPECT_TRUE(again.integer(value));
}

TEST(JsonReader, AStringOfGigabytesIsCutAndCounted) {
  constexpr uint64_t kLength = uint64_t{5} << 30;
  Repeat source("[\"", std::string(1 << 18, 'x'), kLength, "\", 3]");
  JsonReader reader(source, "long.json");
  reader.begin_array();
  ASSERT_TRUE(reader.next_element());
  EXPECT_LE(reader.string().size(), JsonReader::kDefaultWindow);
  EXPECT_EQ(reader.strings_cut(), 1u);
  EXPECT_GE(reader.offset(), kLength);
  ASSERT_TRUE(reader.next_element());
  int64_t value = 0;
  EXPECT_TRUE(reader.integer(value));
  EXPECT_EQ(value, 3);
}

TEST(JsonReader, ALongStringIsSkippedToo) {
  Repeat source("[{\"a\": \"", std::string(1000, '\\'), 3 << 20, "\"}, 3]");
  JsonReader reader(source, "long.json");
  reader.begin_array();
  ASSERT_TRUE(reader.next_element());
  EXPECT_TRUE(reader.raw_value().empty());
  ASSERT_TRUE(reader.next_element());
}

TEST(JsonReader, EveryPrefixOfAnObjectIsAnError) {
  const std::string text = R"({"a": [1, {"b": "c\n"}], "d": -2.5e1, "e": null})";
  for (size_t length = 0; length < text.size(); ++length) {
    Dribbled reader(text.substr(0, length), 5, "cut.json");
    EXPECT_THROW(
        {
          reader.begin_object();
          std::string_view key;
          while (reader.next_key(key)) reader.skip_value();
        },
        Error)
        << length;
  }
}

TEST(JsonReader, AByteOrderMarkMeansNothing) {
  Dribbled reader("\xef\xbb\xbf {\"a\": 1}", 2, "marked.json");
  EXPECT_EQ(reader.peek(), '{');
}

TEST(JsonReader, ErrorsNameFileAndPlace) {
  Dribbled reader(R"({"a" 1})", 5, "bad.json");
  reader.begin_object();
  std::string_view key;
  EXPECT_THAT([&] { reader.next_key(key); },
              test::fails_with(ErrorKind::input,
                               testing::HasSubstr("bad.json: is not valid JSON at byte 5")));
}

}  // namespace
}  // namespace preserve::import
