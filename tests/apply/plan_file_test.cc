// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "apply/outcome_file.h"
#include "apply/plan_content.h"

namespace preserve::apply {
namespace {

PlanContent small_plan() {
  PlanContent plan;
  plan.header.ranks = 2;
  plan.header.chunk_bytes = 4096;
  plan.header.folder = plan.add_text("/tmp/x");
  PlanCollective collective{};
  collective.bytes = 64;
  collective.ranks = 2;
  collective.type_bytes = 9;
  std::memcpy(collective.type, "MPI_FLOAT", 9);
  plan.collectives = {collective, collective};
  plan.windows = {{1, 0, 1, 0}};
  plan.slices = {{0, 0, 128, 256}};
  plan.tensors = {{TensorKind::region, 0, 4096, plan.add_text("a.weight")}};
  return plan;
}

class Memory {  // aligned as a mapped file is
 public:
  explicit Memory(const std::string& file) : words_(file.size() / 8 + 1), bytes_(file.size()) {
    std::memcpy(words_.data(), file.data(), file.size());
  }
  std::span<const std::byte> view() const { return std::as_bytes(std::span(words_)).first(bytes_); }

 private:
  std::vector<uint64_t> words_;
  size_t bytes_;
};

template <typename View = PlanView>
const char* error_of(const std::string& file) {
  const Memory memory(file);
  View view;
  return view.open(memory.view());
}
const char* error_of(const PlanContent& plan) {
  return error_of(plan.encoded());
}

TEST(PlanFile, ReadsBackWhatWasWritten) {
  const Memory memory(small_plan().encoded());
  PlanView view;
  ASSERT_STREQ(view.open(memory.view()), nullptr);
  EXPECT_EQ(view.folder(), "/tmp/x");
  ASSERT_EQ(view.collectives().size(), 2U);
  EXPECT_EQ(view.collectives()[1].type_name(), "MPI_FLOAT");
  ASSERT_EQ(view.slices(view.windows()[0]).size(), 1U);
  EXPECT_EQ(view.slices(view.windows()[0])[0].length_bytes, 256U);
  EXPECT_EQ(view.text(view.tensors()[0].name), "a.weight");
  EXPECT_EQ(view.header().deadline_pairs, kDefaultDeadlinePairs);
}

TEST(PlanFile, RefusesEveryCutAndEveryForeignByteOfItsHeader) {
  const std::string file = small_plan().encoded();
  for (size_t bytes = 0; bytes < file.size(); ++bytes) {
    EXPECT_NE(error_of(file.substr(0, bytes)), nullptr) << bytes;
  }
  EXPECT_NE(error_of(file + "x"), nullptr);
  for (const size_t at : {size_t{0}, size_t{8}, size_t{12}, size_t{16}}) {
    std::string damaged = file;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x40);
    EXPECT_NE(error_of(damaged), nullptr) << at;
  }
}

TEST(PlanFile, RefusesWhatPointsOutside) {
  const auto damaged = [](auto damage) {
    PlanContent plan = small_plan();
    damage(plan);
    return error_of(plan) != nullptr;
  };
  EXPECT_TRUE(damaged([](PlanContent& p) { p.collectives.clear(); }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.collectives.resize(kMostCollectives + 1); }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.collectives[0].type_bytes = 65; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.windows[0].collective = 2; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.windows.push_back(p.windows[0]); }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.windows[0].slices = 2; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.windows[0].first_slice = UINT32_MAX; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.slices[0].tensor = 1; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.slices[0].length_bytes = 0; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.slices[0].offset_bytes = UINT64_MAX; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.tensors[0].name.bytes = 1000; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.header.folder = {0, 0}; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.header.chunk_bytes = 0; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.header.ranks = 0; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.header.link_latency_ns = -1; }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.header.method = static_cast<Method>(99); }));
  EXPECT_TRUE(damaged([](PlanContent& p) { p.header.mode = static_cast<Mode>(99); }));
}

std::string outcome() {
  OutcomeHeader header{};
  std::memcpy(header.magic, kOutcomeMagic, sizeof(header.magic));
  header.version = kOutcomeVersion;
  header.header_bytes = sizeof(header);
  header.windows = 1;
  header.tensors = 1;
  header.sample_capacity = 2;
  header.samples = 5;
  header.file_bytes = outcome_bytes(1, 1, 2);
  std::memcpy(header.host, "node", 5);
  std::string file(header.file_bytes, '\0');
  std::memcpy(file.data(), &header, sizeof(header));
  return file;
}

TEST(OutcomeFile, ReadsNoMoreSamplesThanWereKept) {
  const Memory memory(outcome());
  OutcomeView view;
  ASSERT_STREQ(view.open(memory.view()), nullptr);
  EXPECT_EQ(view.samples().size(), 2U);
  EXPECT_EQ(view.host(), "node");
}

TEST(OutcomeFile, RefusesEveryCutAndUnknownValues) {
  const std::string file = outcome();
  for (size_t bytes = 0; bytes < file.size(); ++bytes) {
    EXPECT_NE(error_of<OutcomeView>(file.substr(0, bytes)), nullptr) << bytes;
  }
  for (const size_t at :
       {offsetof(OutcomeHeader, state), sizeof(OutcomeHeader) + sizeof(WindowOutcome),
        size_t{outcome_bytes(1, 1, 0)} + offsetof(StepSample, arm)}) {
    std::string damaged = file;
    damaged[at] = 77;
    EXPECT_NE(error_of<OutcomeView>(damaged), nullptr) << at;
  }
}

}  // namespace
}  // namespace preserve::apply
