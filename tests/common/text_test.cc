// SPDX-License-Identifier: Apache-2.0
#include "common/text.h"

#include <gtest/gtest.h>

#include "common/cli.h"

namespace preserve {
namespace {

TEST(Printable, ShowsWhatATerminalWouldActOn) {
  EXPECT_EQ(printable("layers.0.attn"), "layers.0.attn");
  EXPECT_EQ(printable("a\x1b[2Jb\x7f\n"), "a\\x1b[2Jb\\x7f\\x0a");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\xc2\\x9b31m")
      << "a control sequence in one character";
}

TEST(Printable, ShowsCharactersThatReorderTheTextAfterThem) {
  EXPECT_EQ(printable("a\xe2\x80\xae"
                      "b"),
            "a\\xe2\\x80\\xaeb")
      << "U+202E";
  EXPECT_EQ(printable("\xe2\x81\xa6"), "\\xe2\\x81\\xa6") << "U+2066";
  EXPECT_EQ(printable("a\u200Bb\u2060\uFEFF"), "a\\xe2\\x80\\x8bb\\xe2\\x81\\xa0\\xef\\xbb\\xbf");
  EXPECT_EQ(printable("\xd8\x9c"), "\\xd8\\x9c") << "U+061C";
  EXPECT_EQ(printable("a\x9b[2J\xc3\xa4\xf0\x9f\x98\x80\xe2\x82"),
            "a\\x9b[2J\xc3\xa4\xf0\x9f\x98\x80\\xe2\\x82")
      << "bytes that are no UTF-8";
}

TEST(Printable, KeepsOtherAlphabets) {
  for (const char* text : {"gr\xc3\xb6\xc3\x9f"
                           "e",
                           "\xd8\xb7\xd8\xa8\xd9\x82\xd8\xa9", "\xe2\x82\xac", "\xe5\xb1\x82"}) {
    EXPECT_EQ(printable(text), text);
  }
}

// A file may be named like that, and so may a value on the command line.
TEST(Printable, MessagesDoNotReachATerminalAsTheyAre) {
  Console console;
  console.set_tool("tool");
  testing::internal::CaptureStderr();
  console.error("no file 'a\x1b[31m\r\xe2\x80\xae'\nTry\tthis");
  console.warn("\x1b]0;title\x07");
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "tool: error: no file 'a\\x1b[31m\\x0d\\xe2\\x80\\xae'\nTry\tthis\n"
            "warning: \\x1b]0;title\\x07\n");
}

TEST(Printable, CutsLongText) {
  EXPECT_EQ(printable("abcdef", 3), "abc...");
}

TEST(CountOf, AgreesWithItsNoun) {
  EXPECT_EQ(count_of(1, "rank"), "1 rank");
  EXPECT_EQ(count_of(2, "rank"), "2 ranks");
}

}  // namespace
}  // namespace preserve
