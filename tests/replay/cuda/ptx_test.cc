// SPDX-License-Identifier: Apache-2.0
// What the compiler made of the kernels, read in their PTX of compute capability 9.0 and in what
// ptxas says of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <sstream>

namespace {

using testing::Each;
using testing::HasSubstr;

std::string text_of(const std::string& name) {
  std::ifstream in(PRESERVE_CUDA_LISTINGS "/" + name);
  std::stringstream text;
  text << in.rdbuf();
  EXPECT_FALSE(text.str().empty()) << name;
  return text.str();
}

// By mangled name: the instructions of every kernel in a file.
std::map<std::string, std::vector<std::string>> kernels_of(const std::string& file) {
  std::map<std::string, std::vector<std::string>> kernels;
  std::stringstream text(text_of(file));
  std::string line, name;
  bool inside = false;
  while (std::getline(text, line)) {
    static const std::regex entry(R"(\.entry (\w+)\()");
    std::smatch match;
    if (std::regex_search(line, match, entry)) name = match[1];
    if (line == "{") inside = true;
    if (line == "}") inside = false;
    const size_t begin = line.find_first_not_of(" \t");
    if (inside && begin != std::string::npos) kernels[name].push_back(line.substr(begin));
  }
  return kernels;
}

bool is_plain(const std::string& kernel, const std::string& name) {
  return kernel.find(name) != std::string::npos &&
         std::regex_search(kernel, std::regex(name + "I(Lb[01]E)?Lb0EEE"));
}

std::vector<std::string> matching(const std::vector<std::string>& instructions,
                                  const std::string& pattern) {
  const std::regex expression(pattern);
  std::vector<std::string> found;
  for (const std::string& instruction : instructions) {
    if (std::regex_search(instruction, expression)) found.push_back(instruction);
  }
  return found;
}

constexpr const char* kStores = R"(^(@!?%p\d+ )?(st|red|atom|cp\.reduce)\b)";
constexpr const char* kBulk = R"(^(@!?%p\d+ )?cp\.async\.bulk)";

TEST(PrefetchPtx, PlainKernelsStoreNothing) {
  int plain = 0;
  for (const auto& [name, instructions] : kernels_of("prefetch.ptx")) {
    for (const char* method : {"prefetch_bulk", "prefetch_lines", "prefetch_load"}) {
      if (!is_plain(name, method)) continue;
      ++plain;
      EXPECT_THAT(matching(instructions, kStores), testing::IsEmpty()) << name;
    }
  }
  EXPECT_EQ(plain, 6);
}

TEST(PrefetchPtx, KernelsOfHalfTheSmsOnlyDrawTickets) {
  const auto kernels = kernels_of("prefetch.ptx");
  EXPECT_EQ(kernels.size(), 12U);
  for (const auto& [name, instructions] : kernels) {
    EXPECT_THAT(matching(instructions, R"(^(@!?%p\d+ )?(st|red)\.(?!shared))"), testing::IsEmpty());
    EXPECT_THAT(matching(instructions, R"(^(@!?%p\d+ )?atom)"),
                Each(testing::ContainsRegex("atom\\.global\\.add\\.u(32|64)")))
        << name;
  }
}

// The operands of a bulk request come out of a mask of 16.
TEST(PrefetchPtx, BulkRequestsAreMasked) {
  int requests = 0;
  for (const auto& [name, instructions] : kernels_of("prefetch.ptx")) {
    for (size_t i = 0; i < instructions.size(); ++i) {
      static const std::regex request(
          R"(cp\.async\.bulk\.prefetch\.L2\.global\S* \[(%rd\d+)\], (%r\d+))");
      std::smatch match;
      if (!std::regex_search(instructions[i], match, request)) continue;
      ++requests;
      EXPECT_THAT(name, HasSubstr("prefetch_bulk"));
      for (const std::string& operand : {match[1].str(), match[2].str()}) {
        const auto defined =
            matching(std::vector<std::string>(instructions.begin(),
                                              instructions.begin() + static_cast<long>(i)),
                     "^[a-z0-9.]+\\s+" + operand + ",");
        ASSERT_FALSE(defined.empty()) << operand;
        EXPECT_THAT(defined.back(), testing::ContainsRegex("^and\\.b(32|64).*, -16;"));
      }
    }
  }
  EXPECT_EQ(requests, 4);
}

TEST(PrefetchPtx, EachMethodUsesItsOwnInstruction) {
  for (const auto& [name, instructions] : kernels_of("prefetch.ptx")) {
    const bool bulk = name.find("prefetch_bulk") != std::string::npos;
    const bool lines = name.find("prefetch_lines") != std::string::npos;
    const bool load = name.find("prefetch_load") != std::string::npos;
    const bool kept = std::regex_search(name, std::regex("ILb1ELb[01]EEE"));
    EXPECT_EQ(matching(instructions, kBulk).size(), bulk ? 1U : 0U) << name;
    const auto prefetches = matching(instructions, R"(^(@!?%p\d+ )?prefetch\.)");
    EXPECT_EQ(prefetches.size(), lines ? 1U : 0U) << name;
    const auto loads = matching(instructions, R"(ld\.global\.L1::no_allocate\S*v4\.u32)");
    EXPECT_EQ(loads.size(), load ? 8U : 0U) << name;  // in flight at once
    if (kept && lines) {
      EXPECT_THAT(prefetches, Each(HasSubstr("L2::evict_last")));
    }
    if (kept && load) {
      EXPECT_THAT(loads, Each(HasSubstr("L2::cache_hint")));
    }
    if (kept && !lines) {
      EXPECT_EQ(matching(instructions, "createpolicy.fractional.L2::evict_last").size(), 1U);
    }
    if (!kept) {
      EXPECT_THAT(instructions, Each(testing::Not(HasSubstr("evict_last"))));
    }
    // What was loaded is used, or the assembler would drop the loads.
    EXPECT_EQ(matching(instructions, "^@same nanosleep").size(), load ? 1U : 0U) << name;
  }
}

TEST(ReadPtx, LoadsAreWideAndPassL1By) {
  for (const auto& [name, instructions] : kernels_of("nodes.ptx")) {
    if (name.find("read_ranges") == std::string::npos) continue;
    EXPECT_EQ(matching(instructions, R"(ld\.global\.L1::no_allocate\.v4\.u32)").size(), 4U);
    EXPECT_EQ(matching(instructions, R"(^(@!?%p\d+ )?st\.(global\.)?v4\.u32)").size(), 4U);
    EXPECT_EQ(matching(instructions, R"(red\.relaxed\.gpu\.global\.min\.u64)").size(), 1U);
    EXPECT_EQ(matching(instructions, R"(red\.relaxed\.gpu\.global\.max\.u64)").size(), 1U);
    EXPECT_EQ(matching(instructions, R"(red\.relaxed\.gpu\.global\.add\.u64)").size(), 1U);
  }
}

TEST(NodePtx, OnlyPrefetchesPrefetch) {
  for (const char* file : {"nodes.ptx", "bookkeeping.ptx"}) {
    EXPECT_EQ(text_of(file).find("prefetch.global"), std::string::npos) << file;
    EXPECT_EQ(text_of(file).find("cp.async"), std::string::npos) << file;
  }
}

TEST(ChasePtx, HopsPassL1By) {
  for (const auto& [name, instructions] : kernels_of("nodes.ptx")) {
    if (name.find("5chase") == std::string::npos) continue;
    EXPECT_FALSE(matching(instructions, R"(ld\.relaxed\.gpu\.global\.u64)").empty()) << name;
  }
}

TEST(Ptxas, NothingIsSpilled) {
  int kernels = 0;
  for (const char* file : {"nodes.ptxas.txt", "prefetch.ptxas.txt", "bookkeeping.ptxas.txt"}) {
    std::stringstream text(text_of(file));
    std::string line;
    while (std::getline(text, line)) {
      if (line.find("bytes stack frame") == std::string::npos) continue;
      ++kernels;
      EXPECT_THAT(line,
                  HasSubstr("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"));
    }
  }
  EXPECT_GE(kernels, 24);
}

// Four blocks of the read kernel and one of the largest prefetch kernel fit into an SM together.
TEST(Ptxas, PrefetchFitsBesideReads) {
  const auto registers = [](const std::string& file, const std::string& kernel) {
    const std::string text = text_of(file);
    const std::regex words("properties for \\w*" + kernel +
                           "\\w*\\n[^\\n]*\\n[^\\n]*Used (\\d+) reg");
    int most = 0;
    for (std::sregex_iterator at(text.begin(), text.end(), words), end; at != end; ++at) {
      most = std::max(most, std::stoi((*at)[1]));
    }
    return most;
  };
  const int read = registers("nodes.ptxas.txt", "read_ranges");
  const int load = registers("prefetch.ptxas.txt", "prefetch_load");
  ASSERT_GT(read, 0);
  ASSERT_GT(load, 0);
  EXPECT_LE(4 * 256 * read + 512 * load, 65'536);
}

}  // namespace
