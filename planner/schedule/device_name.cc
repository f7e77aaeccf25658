// SPDX-License-Identifier: Apache-2.0
#include "planner/schedule/device_name.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <string>
#include <vector>

namespace preserve {
namespace {

constexpr std::array kMeaningless{"nvidia",      "tesla",   "geforce", "gpu",       "graphics",
                                  "server",      "edition", "hbm2",    "hbm2e",     "hbm3e",
                                  "workstation", "gddr6",   "gddr7",   "blackwell", "hopper"};

struct DeviceName {
  std::set<std::string> model;
  std::string memory_gb, form;  // empty: not stated
};

std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> words;
  bool inside = false;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) {
      inside = false;
      continue;
    }
    if (!inside) words.emplace_back();
    inside = true;
    words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return words;
}

// "80", "80g", "80gb" with unit, else empty.
std::string gigabytes_of(const std::string& word) {
  const size_t digits = word.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string::npos) return {};
  const std::string unit = word.substr(digits);
  return unit == "g" || unit == "gb" || unit == "gib" ? word.substr(0, digits) : std::string();
}

DeviceName name_of(std::string_view text) {
  DeviceName name;
  for (const std::string& word : words_of(text)) {
    if (const std::string size = gigabytes_of(word); !size.empty()) {
      name.memory_gb = size;
    } else if (word.starts_with("sxm")) {
      name.form = "sxm";
    } else if (word == "pcie" || word == "nvl") {
      name.form = word;
    } else if (word == "hbm3") {
      if (name.form.empty()) name.form = "hbm3";
    } else if (std::ranges::find(kMeaningless, word) == kMeaningless.end()) {
      name.model.insert(word);
    }
  }
  // Only the H100 on SXM is named by its memory.
  if (name.form == "hbm3") name.form = name.model.count("h100") != 0 ? "sxm" : "";
  return name;
}

bool agree(const std::string& a, const std::string& b) {
  return a.empty() || b.empty() || a == b;
}

}  // namespace

bool same_device(std::string_view planned, std::string_view actual) {
  if (planned == actual) return true;
  const DeviceName a = name_of(planned);
  const DeviceName b = name_of(actual);
  return !a.model.empty() && a.model == b.model && agree(a.memory_gb, b.memory_gb) &&
         agree(a.form, b.form);
}

}  // namespace preserve
