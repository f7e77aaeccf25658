// SPDX-License-Identifier: Apache-2.0
#include "reports/text.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace preserve::report {
namespace {

TEST(Clean, LeavesOrdinaryNamesAlone) {
  EXPECT_EQ(clean("layers.3.mlp.gate_up"), "layers.3.mlp.gate_up");
  EXPECT_EQ(clean("Größe µs 模型"), "Größe µs 模型");
}

TEST(Clean, ShowsWhatWouldHide) {
  EXPECT_EQ(clean("a\nb\x1b[31m\x7f"), "a\\x0ab\\x1b[31m\\x7f");
  EXPECT_EQ(clean(std::string("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(clean("evil\u202Egnp.exe"), "evil\\u202egnp.exe");
  EXPECT_EQ(clean("a\u200Bb\u2066c\uFEFF"), "a\\u200bb\\u2066c\\ufeff");
}

TEST(Clean, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(clean("a\xff"
                  "b"),
            "a\uFFFDb");
  EXPECT_EQ(clean("\xc0\xaf"), "\uFFFD\uFFFD") << "overlong";
  EXPECT_EQ(clean("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD") << "surrogate";
  EXPECT_EQ(clean("\xe6\xa8"), "\uFFFD\uFFFD") << "cut short";
}

TEST(Clean, CutsAMegabyteAndSaysSo) {
  const std::string cut = clean(std::string(1'000'000, 'x'));
  EXPECT_LT(cut.size(), 300U);
  EXPECT_NE(cut.find("(1000000 bytes)"), std::string::npos);
}

RC_GTEST_PROP(Clean, IsIdempotentForWhateverBytes, (const std::string& bytes)) {
  const std::string once = clean(bytes, 100'000);
  RC_ASSERT(clean(once, 100'000) == once);
}

RC_GTEST_PROP(EscapeHtml, LeavesNothingThatOpensMarkup, (const std::string& bytes)) {
  RC_ASSERT(escape_html(bytes).find_first_of("<>\"'") == std::string::npos);
}

TEST(EscapeScriptJson, CannotEndTheScript) {
  EXPECT_EQ(escape_script_json("\"</script><!--\""), "\"\\u003c/script>\\u003c!--\"");
}

TEST(Shorten, KeepsTheEndOfAPath) {
  EXPECT_EQ(shorten("layers.31.attn.o_proj", 30), "layers.31.attn.o_proj");
  EXPECT_EQ(shorten("layers.31.attn.o_proj", 10), "lay…o_proj");
  EXPECT_EQ(shorten("模型模型模型模型", 4), "模…模型");
}

TEST(WithoutLayerNumbers, KeepsNumbersThatArePartOfAName) {
  EXPECT_EQ(without_layer_numbers("layers.13.mlp.down"), "layers.*.mlp.down");
  EXPECT_EQ(without_layer_numbers("model/7/attn:2"), "model/*/attn:*");
  EXPECT_EQ(without_layer_numbers("gemm_128x128"), "gemm_128x128");
  EXPECT_EQ(without_layer_numbers(""), "");
  EXPECT_EQ(without_layer_numbers("a."), "a.");
}

TEST(CsvText, QuotesAndDisarmsFormulas) {
  EXPECT_EQ(csv_text("a,\"b\""), "\"a,\"\"b\"\"\"");
  for (const char* formula : {"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"}) {
    EXPECT_EQ(csv_text(formula), fmt::format("\"'{}\"", formula));
  }
}

TEST(MarkdownCode, SurvivesBackticksAndTables) {
  EXPECT_EQ(markdown_code("a|b"), "`a\\|b`");
  EXPECT_EQ(markdown_code("`x`"), "`` `x` ``");
  EXPECT_EQ(markdown_code("@all #1"), "`@all #1`");
}

TEST(Grouped, SeparatesThousands) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1'234'567), "1,234,567");
  EXPECT_EQ(grouped(-1000), "-1,000");
}

}  // namespace
}  // namespace preserve::report
