// SPDX-License-Identifier: Apache-2.0
#include "db/step/stated_tokens.h"

#include <charconv>

namespace preserve {
namespace {

std::optional<int64_t> number_at(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 0 || value > kMostStepTokens) return std::nullopt;
  return value;
}

std::optional<int64_t> number_after(std::string_view text, std::string_view label) {
  const size_t at = text.find(label);
  if (at == std::string_view::npos) return std::nullopt;
  return number_at(text.substr(at + label.size()));
}

// The number in brackets that follows the one after `label`: "generation_3(5)" is 5.
std::optional<int64_t> bracket_after(std::string_view text, std::string_view label) {
  const size_t at = text.find(label);
  if (at == std::string_view::npos) return std::nullopt;
  text.remove_prefix(at + label.size());
  const size_t digits = text.find_first_not_of("0123456789");
  if (digits == std::string_view::npos || digits == 0 || text[digits] != '(') return std::nullopt;
  return number_at(text.substr(digits + 1));
}

std::optional<int64_t> number_before(std::string_view text, std::string_view label) {
  const size_t at = text.find(label);
  if (at == std::string_view::npos) return std::nullopt;
  size_t begin = at;
  while (begin > 0 && text[begin - 1] >= '0' && text[begin - 1] <= '9') --begin;
  return number_at(text.substr(begin, at - begin));
}

}  // namespace

std::optional<int64_t> stated_tokens(std::string_view annotation, StepPhase phase) {
  // vLLM's long form begins with the sum: "execute_20_context_1(sq16sk16...)_generation_4(...)".
  const auto sum = number_after(annotation, "execute_");
  const auto prompts = number_after(annotation, "context_");
  const auto requests = number_before(annotation, " ctx reqs");
  const int64_t prefills = prompts.value_or(requests.value_or(0));
  std::optional<int64_t> tokens;
  if (phase == StepPhase::prefill) {
    tokens = number_after(annotation, "toks=");
    if (!tokens && prefills > 0) tokens = sum;
    if (!tokens && prefills > 0) {
      tokens = bracket_after(annotation, "context_");
      const auto others = bracket_after(annotation, "generation_");
      if (tokens && others) *tokens += *others;
    }
  } else if (prefills == 0) {
    tokens = number_after(annotation, "bs=");
    if (!tokens && prompts) tokens = sum;
    if (!tokens) tokens = bracket_after(annotation, "generation_");
    if (!tokens) tokens = number_after(annotation, "generation_");
    if (!tokens) tokens = number_before(annotation, " gen");
  }
  return tokens && *tokens > 0 ? tokens : std::nullopt;
}

}  // namespace preserve
