// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/known_devices.h"

#include "common/number.h"
#include "profiler/gpu/records.h"

namespace preserve::import {
namespace {

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kGB = 1'000'000'000;
constexpr int64_t kMostMemoryGb = 1000;

struct Entry {
  const char* words;        // of the name, all of them
  int64_t least_memory_gb;  // only for devices with at least this much
  int64_t cache_mib;
  int64_t bandwidth_gb_per_s;
};

// The particular before the general: "H100 PCIe" before "H100", 80 GB before 40 GB.
constexpr Entry kEntries[] = {
    {"GB10", 0, 24, 273},
    {"RTX PRO 6000 Blackwell Server", 0, 128, 1597},
    {"RTX PRO 6000", 0, 128, 1792},
    {"B300", 0, 126, 8000},
    {"GB300", 0, 126, 8000},
    {"B200", 0, 126, 8000},
    {"GB200", 0, 126, 8000},
    {"H200", 0, 50, 4800},
    {"GH200 144G", 0, 50, 4900},
    {"GH200", 0, 50, 4000},
    {"H100 NVL", 0, 50, 3900},
    {"H100 PCIe", 0, 50, 2000},
    {"H100 80GB HBM2e", 0, 50, 2000},
    {"H100", 0, 50, 3350},
    {"H800 PCIe", 0, 50, 2000},
    {"A100 PCIe", 70, 40, 1935},
    {"A100 80GB PCIe", 0, 40, 1935},
    {"A800 80GB PCIe", 0, 40, 1935},
    {"H800", 0, 50, 3350},
    {"H20 3e", 0, 60, 4800},
    {"H20", 0, 60, 4000},
    {"A100", 70, 40, 2039},
    {"PG509 210", 0, 40, 2039},
    {"A100", 0, 40, 1555},
    {"A800", 70, 40, 2039},
    {"A800", 0, 40, 1555},
    {"A30", 0, 24, 933},
    {"L40S", 0, 96, 864},
    {"L40", 0, 96, 864},
    {"L20", 0, 96, 864},
    {"L4", 0, 48, 300},
    {"A10G", 0, 6, 600},
    {"A10", 0, 6, 600},
    {"A40", 0, 6, 696},
    {"RTX 4090", 0, 72, 1008},
    {"RTX 5090 Laptop", 0, 64, 896},
    {"RTX 5090", 0, 96, 1792},
    {"RTX 5080", 0, 64, 960},
    {"RTX 6000 Ada", 0, 96, 960},
    {"RTX 3090 Ti", 0, 6, 1008},
    {"RTX 3090", 0, 6, 936},
    {"RTX A6000", 0, 6, 768},
    {"RTX A5000", 0, 6, 768},
    {"RTX A4000", 0, 4, 448},
    {"V100", 0, 6, 900},
    {"P100 PCIE 12GB", 0, 3, 549},
    {"P100", 0, 4, 732},
    {"T4", 0, 4, 320},
    {"MI355X", 0, 256, 8000},
    {"MI350X", 0, 256, 8000},
    {"MI325X", 0, 256, 6000},
    {"MI300X", 0, 256, 5300},
    {"MI308X", 0, 256, 5300},
    {"MI300A", 0, 256, 5300},
    {"MI250X", 0, 8, 1638},
    {"MI250", 0, 8, 1638},
    {"MI210", 0, 8, 1638},
    {"MI100", 0, 8, 1229},
};

// A name with one of these is another product than the same name without it, or a part of one.
constexpr std::string_view kOtherProducts[] = {"laptop", "mobile", "max", "mig", "grid"};

// "8q" of "NVIDIA A40-8Q": a virtual GPU with that many GB of one.
bool is_virtual_profile(std::string_view word) {
  return word.size() > 1 && word.find_first_not_of("0123456789") == word.size() - 1 &&
         std::string_view("abcq").find(word.back()) != std::string_view::npos;
}

bool is_word_character(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
}

// "NVIDIA A100-SXM4-80GB" -> " nvidia a100 sxm4 80gb "
std::string words_of(std::string_view name) {
  std::string words = " ";
  for (const char c : gpu::lower_case(name)) {
    if (is_word_character(c)) {
      words += c;
    } else if (words.back() != ' ') {
      words += ' ';
    }
  }
  if (words.back() != ' ') words += ' ';
  return words;
}

// The size in "nvidia a100 sxm4 80gb", where the name says one.
std::optional<int64_t> memory_in(std::string_view words) {
  for (size_t at = words.find("gb "); at != std::string_view::npos;
       at = words.find("gb ", at + 1)) {
    const size_t space = words.rfind(' ', at);
    const auto size = number_of<int64_t>(words.substr(space + 1, at - space - 1));
    if (size && *size <= kMostMemoryGb) return *size * kGB;
  }
  return std::nullopt;
}

}  // namespace

std::optional<KnownDevice> known_device(std::string_view name,
                                        std::optional<int64_t> memory_bytes) {
  const std::string words = words_of(name);
  for (std::string_view rest = words; rest.size() > 1;) {
    rest.remove_prefix(1);
    const std::string_view word = rest.substr(0, rest.find(' '));
    if (is_virtual_profile(word)) return std::nullopt;
    rest.remove_prefix(word.size());
  }
  if (!memory_bytes) memory_bytes = memory_in(words);
  for (const Entry& entry : kEntries) {
    const std::string wanted = words_of(entry.words);
    if (words.find(wanted) == std::string::npos) continue;
    if (memory_bytes.value_or(0) < entry.least_memory_gb * kGB) continue;
    for (const std::string_view other : kOtherProducts) {
      const std::string word = words_of(other);
      if (words.find(word) != std::string::npos && wanted.find(word) == std::string::npos) {
        return std::nullopt;
      }
    }
    return KnownDevice{entry.cache_mib * kMiB, entry.bandwidth_gb_per_s * kGB};
  }
  return std::nullopt;
}

}  // namespace preserve::import
