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

struct Options {
  int64_t wait_ns = 5;
  std::optional<int64_t> room_bytes;
  Fruit fruit = Fruit::apple;
};

Options parsed(const std::string& words) {
  Options options;
  CLI::App app;
  app.add_option("--wait", options.wait_ns)->transform(as_duration_ns(1'000, 1'000'000));
  app.add_option("--room", options.room_bytes)->transform(as_size_bytes());
  app.add_option("--fruit", options.fruit)
      ->transform(as_choice<Fruit>({{"apple", Fruit::apple}, {"pear", Fruit::pear}}));
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

}  // namespace
}  // namespace preserve
