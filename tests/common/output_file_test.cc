// SPDX-License-Identifier: Apache-2.0
#include "common/output_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "common/error.h"
#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using test::TemporaryDirectory;
namespace fs = std::filesystem;

size_t entries(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), {}));
}

TEST(OutputFile, NothingIsThereBeforeTheCommit) {
  const TemporaryDirectory directory;
  {
    const OutputFile out(directory / "a.json", false);
    EXPECT_EQ(entries(directory.path()), 0u);
    std::ofstream(out.temporary_path()) << "half";
  }
  EXPECT_EQ(entries(directory.path()), 0u) << "an abandoned output is removed";
}

TEST(OutputFile, WriteIsCompleteAndLeavesNoOtherFile) {
  const TemporaryDirectory directory;
  OutputFile(directory / "a.json", false).write("text");
  EXPECT_EQ(read_text_file(directory / "a.json"), "text");
  EXPECT_EQ(entries(directory.path()), 1u);
}

TEST(OutputFile, AnExistingFileNeedsForce) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "a.json") << "old";
  EXPECT_THROW(OutputFile(directory / "a.json", false), Error);
  EXPECT_EQ(read_text_file(directory / "a.json"), "old");
  OutputFile(directory / "a.json", true).write("new");
  EXPECT_EQ(read_text_file(directory / "a.json"), "new");
}

TEST(OutputFile, ALinkToNothingIsThereToo) {
  const TemporaryDirectory directory;
  fs::create_symlink("nowhere", directory / "a.json");
  EXPECT_THROW(OutputFile(directory / "a.json", false), Error);
  OutputFile(directory / "a.json", true).write("new");
  EXPECT_FALSE(fs::is_symlink(directory / "a.json"));
  EXPECT_EQ(read_text_file(directory / "a.json"), "new");
}

TEST(OutputFile, AFileThatAppearsMeanwhileIsNotReplaced) {
  const TemporaryDirectory directory;
  OutputFile out(directory / "a.json", false);
  std::ofstream(directory / "a.json") << "other";
  EXPECT_THROW(out.write("mine"), Error);
  EXPECT_EQ(read_text_file(directory / "a.json"), "other");
}

// Somebody who could foresee it could put a link there.
TEST(OutputFile, TheTemporaryNameIsNotForeseeable) {
  const TemporaryDirectory directory;
  const OutputFile first(directory / "a.json", false), second(directory / "a.json", false);
  EXPECT_NE(first.temporary_path(), second.temporary_path());
}

TEST(OutputFile, FoldersAndMissingFoldersAreRefusedBeforeTheWork) {
  const TemporaryDirectory directory;
  EXPECT_THROW(OutputFile(directory.path(), true), Error);
  EXPECT_THROW(OutputFile(directory / "none/a.json", true), Error);
  EXPECT_THROW(OutputFile("/dev/null", true), Error);
  EXPECT_THROW(OutputFile("", true), Error);
}

TEST(Sha256, KnownAnswer) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "abc") << "abc";
  EXPECT_EQ(sha256_of_file(directory / "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_THROW(sha256_of_file(directory / "none"), Error);
}

TEST(ReadTextFile, EndsWhereTheFileDoesNot) {
  EXPECT_THROW(read_text_file("/dev/zero"), Error);
}

}  // namespace
}  // namespace preserve
