// SPDX-License-Identifier: Apache-2.0
#include "common/tool_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/cli_options.h"
#include "tests/support/errors.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::HasSubstr;
using testing::Not;

enum class Fruit { apple, pear };
const char* to_string(Fruit fruit) {
  return fruit == Fruit::apple ? "apple" : "pear";
}

class ToolPages : public testing::Test {
 protected:
  ToolPages() {
    app_.add_option("input", input_, "What to eat")->required();
    app_.add_option("-f,--fruit", fruit_, "Which [one]: it's yours")
        ->transform(as_choice({Fruit::apple, Fruit::pear}));
    app_.add_flag("--peel", peel_, ".starts with a dot, and has a \\ in it");
    app_.add_option("--secret", input_)->group("");
  }
  std::string page(const char* form) const {
    return tool_page(form, app_, {"preserve-eat", "Eats.", "Examples:\n.first"});
  }
  // What bash offers for the last of `words`.
  std::string completed(const std::string& words) const {
    const test::TemporaryDirectory folder;
    std::ofstream(folder / "page") << page("bash");
    return test::run_program({"bash", "-c",
                              "source ./page; COMP_WORDS=(preserve-eat " + words +
                                  "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _preserve_eat; echo "
                                  "\"${COMPREPLY[*]}\""},
                             {}, folder.path())
        .out;
  }

  CLI::App app_{"Eats.", "preserve-eat"};
  std::string input_;
  Fruit fruit_ = Fruit::apple;
  bool peel_ = false;
};

TEST_F(ToolPages, ManHasEveryOptionThatIsShown) {
  const std::string man = page("man");
  EXPECT_THAT(man, HasSubstr("preserve\\-eat \\- Eats\n"));
  EXPECT_THAT(man, HasSubstr("\\fB\\-f\\fR, \\fB\\-\\-fruit\\fR"));
  EXPECT_THAT(man, HasSubstr("yours.\nOne of apple, pear."));
  EXPECT_THAT(man, HasSubstr("\\&.starts with a dot, and has a \\e in it"));
  EXPECT_THAT(man, HasSubstr("\\&.first"));
  EXPECT_THAT(man, HasSubstr("\\fBinput\\fR"));
  EXPECT_THAT(man, Not(HasSubstr("secret")));
}

TEST_F(ToolPages, BashCompletesOptionsAndTheirWords) {
  EXPECT_EQ(completed("--p"), "--peel\n");
  EXPECT_EQ(completed("--fruit p"), "pear\n");
  EXPECT_EQ(completed("-f ''"), "apple pear\n");
  EXPECT_THAT(completed("-- bas"), HasSubstr("bash"));
  EXPECT_THAT(completed("--s"), Not(HasSubstr("secret")));
}

TEST_F(ToolPages, ZshAndFishQuoteWhatIsSpecialToThem) {
  EXPECT_THAT(page("zsh"), HasSubstr("'--fruit=[Which \\[one\\]\\: it'\\''s yours]:"));
  EXPECT_THAT(page("zsh"), HasSubstr("(apple pear)'"));
  EXPECT_THAT(page("fish"),
              HasSubstr("complete -c preserve-eat -s f -l fruit -r -f -a 'apple pear' -d "
                        "'Which [one]: it'\\''s yours'"));
}

TEST_F(ToolPages, AnotherFormIsRefused) {
  EXPECT_THAT([this] { page("tcsh"); }, test::fails_with("man, bash, zsh or fish"));
}

}  // namespace
}  // namespace preserve
