// SPDX-License-Identifier: Apache-2.0
#include "common/cli_options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <numeric>

#include "common/error.h"
#include "common/shipped_folder.h"
#include "common/text.h"
#include "common/units.h"

namespace preserve {
namespace {

// Letters to insert, remove or replace, or neighbours to exchange, that make one word the other.
size_t edits_between(std::string_view a, std::string_view b) {
  std::vector<size_t> above(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      next[j] =
          std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        next[j] = std::min(next[j], above[j - 2] + 1);
      }
    }
    std::swap(above, row);
    std::swap(row, next);
  }
  return row[b.size()];
}

// CLI11 reports an error by the text that a validator returns, after the name of the option.
CLI::Validator transformer(std::function<std::string(const std::string&)> convert) {
  return CLI::Validator(
      [convert = std::move(convert)](std::string& text) -> std::string {
        try {
          text = convert(text);
          return {};
        } catch (const Error& error) {
          return error.what();
        }
      },
      "");
}

}  // namespace

std::optional<int64_t> parse_count(std::string_view text) {
  int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  int64_t factor = 0;
  if (suffix.empty()) factor = 1;
  if (suffix == "K" || suffix == "k") factor = 1 << 10;
  if (suffix == "M" || suffix == "m") factor = 1 << 20;
  if (error != std::errc() || factor == 0 || count < 1) return std::nullopt;
  if (__builtin_mul_overflow(count, factor, &count)) return std::nullopt;
  return count;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known) {
  if (word.size() > 100) return {};  // no word of ours, and the comparison takes its square
  // Of a typing error in a short word one letter is wrong, or two are in each other's place.
  size_t least = std::max<size_t>(1, word.size() / 3) + 1;
  const std::string* closest = nullptr;
  for (const std::string& candidate : known) {
    const size_t edits = edits_between(word, candidate);
    if (edits >= least || edits >= candidate.size()) continue;
    least = edits;
    closest = &candidate;
  }
  return closest == nullptr ? "" : fmt::format("; did you mean {}?", *closest);
}

CLI::Validator as_duration_ns(int64_t least_ns, int64_t most_ns) {
  return transformer([=](const std::string& text) {
    const int64_t ns = parse_duration_ns(text);
    if (ns < least_ns) {
      throw usage_error("{} is too short, at least {} is needed", text, format_duration(least_ns));
    }
    if (ns > most_ns) {
      throw usage_error("{} is too long, at most {} is possible", text, format_duration(most_ns));
    }
    return std::to_string(ns);
  });
}

CLI::Validator as_size_bytes() {
  return transformer(
      [](const std::string& text) { return std::to_string(parse_size_bytes(text)); });
}

CLI::Validator as_shipped_file(const std::string& folder) {
  return transformer([folder](const std::string& text) -> std::string {
    namespace fs = std::filesystem;
    std::error_code error;
    if (text.empty() || fs::exists(text, error)) return text;
    const fs::path place = shipped_folder(folder);
    const bool name = text.find('/') == std::string::npos && !text.ends_with(".json");
    const fs::path shipped = place / (text + ".json");
    if (name && fs::is_regular_file(shipped, error)) return shipped.string();
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(place, error)) {
      if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
    }
    std::ranges::sort(names);
    if (!name || names.empty()) throw usage_error("cannot read {}: no such file", printable(text));
    throw usage_error("cannot read {}: no such file, and examples/{} has {}{}", printable(text),
                      folder, fmt::join(names, ", "), did_you_mean(text, names));
  });
}

std::string unknown_option(const CLI::App& app) {
  for (const std::string& word : app.remaining()) {
    if (word == "--") return {};
    if (word.size() > 1 && word.front() == '-') {
      std::vector<std::string> known;
      for (const CLI::Option* option : app.get_options()) {
        if (option->get_group().empty()) continue;  // hidden
        for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
      }
      const std::string given = word.substr(0, word.find('='));
      return fmt::format("unknown option {}{}", printable(given), did_you_mean(given, known));
    }
    if (app.get_prefix_command()) return {};  // what follows belongs to the command
  }
  return {};
}

CLI::Validator detail::as_choice(std::vector<std::pair<std::string, int64_t>> values,
                                 size_t listed) {
  std::vector<std::string> words;
  words.reserve(listed);
  for (size_t i = 0; i < listed; ++i) words.push_back(values[i].first);
  const std::string list = fmt::format("{}", fmt::join(words, ", "));
  CLI::Validator choice = transformer([values = std::move(values), words,
                                       list](const std::string& text) {
    const auto found =
        std::ranges::find_if(values, [&](const auto& item) { return item.first == text; });
    if (found == values.end()) {
      throw usage_error("invalid value '{}': expected {}{}", text, list, did_you_mean(text, words));
    }
    return std::to_string(found->second);
  });
  return choice.description("{" + list + "}");
}

}  // namespace preserve
