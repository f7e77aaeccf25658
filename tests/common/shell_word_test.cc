// SPDX-License-Identifier: Apache-2.0
#include "common/shell_word.h"

#include <gtest/gtest.h>

#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

TEST(ShellWord, IsReadBackByAShellAsItWas) {
  EXPECT_EQ(shell_word("out/trace-1.db"), "out/trace-1.db");
  EXPECT_EQ(shell_word(""), "''");
  EXPECT_EQ(shell_word("it's \\n; $HOME"), "'it'\\''s \\n; $HOME'");
  EXPECT_EQ(shell_word("a\x1b[2J\xe2\x80\xae'\\"), "$'a\\x1b[2J\\xe2\\x80\\xae\\'\\\\'");
  for (const std::string word :
       {"a b;rm -rf ~", "it's", "\x1b[2J'\\n\n", "$(id)`id`!\"", "\xc3\xa4 *"}) {
    const test::Run run = test::run_program({"bash", "-c", "printf %s " + shell_word(word)});
    EXPECT_EQ(run.out, word) << shell_word(word);
  }
}

}  // namespace
}  // namespace preserve
