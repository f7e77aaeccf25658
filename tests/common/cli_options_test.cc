// SPDX-License-Identifier: Apache-2.0
#include "common/cli_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

namespace preserve {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

enum class Fruit { apple, pear };
const char* to_string(Fruit fruit) {
  return fruit == Fruit::pear ? "pear" : "apple";
}

struct Options {
  int64_t wait_ns = 5;
  std::optional<int64_t> room_bytes;
  Fruit fruit = Fruit::apple;
  std::string model;
};

Options parsed(const std::string& words) {
  Options options;
  CLI::App app;
  app.add_option("--wait", options.wait_ns)->transform(as_duration_ns(1'000, 1'000'000));
  app.add_option("--room", options.room_bytes)->transform(as_size_bytes());
  app.add_option("--fruit", options.fruit)
      ->transform(as_choice({Fruit::apple, Fruit::pear}, {{"nashi", Fruit::pear}}));
  app.add_option("--model", options.model)->transform(as_shipped_file("models"));
  app.parse(words);
  return options;
}

TEST(CliOptions, StoreWhatWasWrittenInTheTypeThatIsUsed) {
  const Options options = parsed("--wait 200us --room 1.5KiB --fruit pear");
  EXPECT_EQ(options.wait_ns, 200'000);
  EXPECT_EQ(options.room_bytes, 1536);
  EXPECT_EQ(options.fruit, Fruit::pear);
}

TEST(CliOptions, KeepDefaultsOfOptionsThatWereNotGiven) {
  const Options options = parsed("");
  EXPECT_EQ(options.wait_ns, 5);
  EXPECT_EQ(options.room_bytes, std::nullopt);
  EXPECT_EQ(options.fruit, Fruit::apple);
}

TEST(CliOptions, NameTheOptionAndWhatItAccepts) {
  const auto refusing = [](const char* option, const char* text) {
    return ThrowsMessage<CLI::ValidationError>(AllOf(HasSubstr(option), HasSubstr(text)));
  };
  EXPECT_THAT([] { parsed("--wait 200"); }, refusing("--wait", "ns, us, ms, s"));
  EXPECT_THAT([] { parsed("--wait 2s"); }, refusing("--wait", "at most 1.00 ms"));
  EXPECT_THAT([] { parsed("--wait 0"); }, refusing("--wait", "at least 1.00 us"));
  EXPECT_THAT([] { parsed("--room much"); }, refusing("--room", "KiB"));
  EXPECT_THAT([] { parsed("--fruit 1"); }, refusing("--fruit", "apple, pear"));
}

TEST(CliOptions, CountsHaveBinaryThousands) {
  EXPECT_EQ(parse_count("8K"), 8192);
  EXPECT_EQ(parse_count("17"), 17);
  for (const char* bad : {"0", "-1", "1.5K", "K", "8KB", "9223372036854775807K"}) {
    EXPECT_EQ(parse_count(bad), std::nullopt) << bad;
  }
}

TEST(CliOptions, SynonymsAreUnderstoodAndNotListed) {
  EXPECT_EQ(parsed("--fruit nashi").fruit, Fruit::pear);
  EXPECT_THAT([] { parsed("--fruit paer"); },
              ThrowsMessage<CLI::ValidationError>(
                  AllOf(HasSubstr("expected apple, pear;"), HasSubstr("did you mean pear?"))));
}

TEST(CliOptions, OnlyCloseWordsAreMeant) {
  const std::vector<std::string> known{"--link", "--link-rate", "--budget"};
  EXPECT_EQ(did_you_mean("--lnik", known), "; did you mean --link?");
  EXPECT_EQ(did_you_mean("--budgte", known), "; did you mean --budget?");
  EXPECT_EQ(did_you_mean("--frobnicate", known), "");
  EXPECT_EQ(did_you_mean("", known), "");
  EXPECT_EQ(did_you_mean(std::string(10'000, '-'), known), "");
}

TEST(CliOptions, AnUnknownOptionIsNamedBeforeWhatFollowsFromIt) {
  CLI::App app;
  std::string trace;
  app.add_option("trace", trace)->required();
  app.add_option("--link", trace);
  EXPECT_THROW(app.parse("--lnik=200us"), CLI::ParseError);
  EXPECT_EQ(unknown_option(app), "unknown option --lnik; did you mean --link?");
  EXPECT_THROW(app.parse("a b"), CLI::ParseError);
  EXPECT_EQ(unknown_option(app), "");
}

TEST(CliOptions, OptionsOfACommandAreNotOurs) {
  CLI::App app;
  app.prefix_command();
  app.parse("./server --lnik");
  EXPECT_EQ(unknown_option(app), "");
}

TEST(CliOptions, AFileIsTakenAsItIsAndOtherWordsAreNames) {
  EXPECT_EQ(parsed("--model /proc/self/exe").model, "/proc/self/exe");
  EXPECT_THROW(parsed("--model none/such.json"), CLI::ValidationError);
  EXPECT_THROW(parsed("--model no-such-model"), CLI::ValidationError);
}

}  // namespace
}  // namespace preserve
