// SPDX-License-Identifier: Apache-2.0
#include "db/step/stated_tokens.h"

#include <gtest/gtest.h>

namespace preserve {
namespace {

TEST(StatedTokens, ComeFromTheWordsOfTheAnnotation) {
  const auto decode = StepPhase::decode, prefill = StepPhase::prefill;
  EXPECT_EQ(stated_tokens("step[DECODE bs=16]", decode), 16);
  EXPECT_EQ(stated_tokens("step[EXTEND bs=2 toks=512]", prefill), 512);
  EXPECT_EQ(stated_tokens("execute_context_0(0)_generation_3(3)", decode), 3);
  EXPECT_EQ(stated_tokens("execute_context_1(512)_generation_3(3)", prefill), 515);
  EXPECT_EQ(stated_tokens("execute_context_1(512)_generation_3(3)", decode), std::nullopt)
      << "a mixed batch says nothing of decode steps";
  EXPECT_EQ(stated_tokens("[Executor] _forward_step 9: 0 ctx reqs, 7 gen reqs", decode), 7);
  EXPECT_EQ(stated_tokens("decode_step", decode), std::nullopt);
  EXPECT_EQ(stated_tokens("bs=99999999999999999999", decode), std::nullopt);
  EXPECT_EQ(stated_tokens("bs=0", decode), std::nullopt);
  const std::string_view mixed =
      "execute_20_context_1(sq16sk16sqsq256sqsk256)_generation_4(sq4sk9)";
  EXPECT_EQ(stated_tokens(mixed, prefill), 20);
  EXPECT_EQ(stated_tokens(mixed, decode), std::nullopt);
  EXPECT_EQ(stated_tokens("execute_8_context_0(sq0sk0)_generation_4(sq8sk9)", decode), 8)
      << "drafts of four requests";
}

}  // namespace
}  // namespace preserve
