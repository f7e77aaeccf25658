// SPDX-License-Identifier: Apache-2.0
// Manual page and completions of every tool, as the build asks for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/exits.h"
#include "tests/support/paths.h"

namespace preserve {
namespace {

using testing::HasSubstr;

class PagesCli : public testing::TestWithParam<const char*> {};

TEST_P(PagesCli, EveryFormIsMade) {
  const std::string name = GetParam();
  const test::TemporaryDirectory folder;
  const auto page = [&](const std::string& form) {
    const test::Run run = succeeded(
        test::run_program({PRESERVE_BIN_DIR "/" + name, "--tool-page", form}, {}, folder.path()));
    std::ofstream(folder / form.c_str()) << run.out;
    return run.out;
  };
  const std::string man = page("man");
  EXPECT_THAT(man, HasSubstr(".SH NAME"));
  EXPECT_THAT(man, HasSubstr("\\fB\\-\\-quiet\\fR"));
  EXPECT_THAT(man, HasSubstr(".SH NOTES"));
  EXPECT_THAT(page("bash"), HasSubstr("complete -o filenames"));
  EXPECT_THAT(page("zsh"), HasSubstr("#compdef " + name));
  EXPECT_THAT(page("fish"), HasSubstr("complete -c " + name + " "));
  succeeded(test::run_program({"bash", "-n", "bash"}, {}, folder.path()));
  const test::Run other = test::run_program({PRESERVE_BIN_DIR "/" + name, "--tool-page", "tcsh"});
  EXPECT_EQ(other.exit_code, 2);
}

INSTANTIATE_TEST_SUITE_P(Tools, PagesCli,
                         testing::Values("preserve-profile", "preserve-calibrate", "preserve-tune",
                                         "preserve-replay", "preserve-apply", "preserve-explore",
                                         "preserve-report"));

}  // namespace
}  // namespace preserve
