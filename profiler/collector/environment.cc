// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/environment.h"

#include <cstddef>

namespace preserve {
namespace {

// The last group says how messages travel: a replay has to send its own the same way.
constexpr std::string_view kPrefixes[] = {
    "OMP_",          "GOMP_",         "KMP_",           "OPENBLAS_",    "OMPI_COMM_WORLD_",
    "NCCL_",         "VLLM_DP_",      "OMPI_MCA_btl",   "OMPI_MCA_pml", "OMPI_MCA_mtl",
    "OMPI_MCA_coll", "OMPI_MCA_mpi_", "OMPI_MCA_opal_", "UCX_",         "FI_",
    "PSM2_",         "PSM3_",         "HCOLL_"};
constexpr std::string_view kNames[] = {"RANK",
                                       "LOCAL_RANK",
                                       "WORLD_SIZE",
                                       "LOCAL_WORLD_SIZE",
                                       "PMI_RANK",
                                       "PMI_SIZE",
                                       "PMIX_RANK",
                                       "SLURM_PROCID",
                                       "SLURM_NTASKS",
                                       "SLURM_LOCALID",
                                       "SLURM_NNODES",
                                       "CUDA_VISIBLE_DEVICES",
                                       "CUDA_DEVICE_ORDER",
                                       "CUDA_LAUNCH_BLOCKING",
                                       "CUDA_DEVICE_MAX_CONNECTIONS",
                                       "MKL_NUM_THREADS"};
constexpr std::string_view kSecretPrefixes[] = {"hf_",         "sk-",    "ghp_",   "gho_",
                                                "github_pat_", "glpat-", "AKIA",   "xoxb-",
                                                "xoxp-",       "eyJ",    "nvapi-", "Bearer "};
// Whole words: --max-tokens is a number, --hf-token is not. `key` only as the last of several
// words.
constexpr std::string_view kSecretWords[] = {"token",      "secret",      "password",  "passwd",
                                             "credential", "credentials", "apikey",    "auth",
                                             "pass",       "pwd",         "passphrase"};
constexpr size_t kKeyLength = 20;  // shorter than the keys that services issue

bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
char lower(char c) {
  return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
}

bool equal_ignoring_case(std::string_view text, std::string_view lower_case_word) {
  if (text.size() != lower_case_word.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (lower(text[i]) != lower_case_word[i]) return false;
  }
  return true;
}

bool is_word(char c) {
  return is_upper(c) || is_lower(c) || is_digit(c);
}

// One word of at least kKeyLength characters with digits, and either both cases or only hex digits.
bool word_is_key(std::string_view word) {
  if (word.size() < kKeyLength) return false;
  bool upper = false, lower_case = false, digit = false, hex = true;
  for (const char c : word) {
    upper |= is_upper(c);
    lower_case |= is_lower(c);
    digit |= is_digit(c);
    hex &= is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'f');
  }
  return digit && ((upper && lower_case) || (hex && (upper || lower_case)));
}

// scheme://user:password@host
bool has_url_password(std::string_view value) {
  for (size_t at = value.find("://"); at != std::string_view::npos; at = value.find("://", at)) {
    at += 3;
    const std::string_view authority = value.substr(at, value.find_first_of("/?# ", at) - at);
    const size_t user_end = authority.rfind('@');
    if (user_end != std::string_view::npos && authority.substr(0, user_end).find(':') < user_end) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool names_a_secret(std::string_view name) {
  int words = 0;
  bool last_is_key = false;
  for (size_t begin = 0; begin < name.size();) {
    size_t end = begin;
    while (end < name.size() && is_word(name[end])) ++end;
    const std::string_view word = name.substr(begin, end - begin);
    begin = end + 1;
    if (word.empty()) continue;
    ++words;
    last_is_key = equal_ignoring_case(word, "key");
    for (const std::string_view secret : kSecretWords) {
      if (equal_ignoring_case(word, secret)) return true;
    }
  }
  return last_is_key && words > 1;
}

bool environment_name_allowed(std::string_view name) {
  if (names_a_secret(name)) return false;
  for (const std::string_view prefix : kPrefixes) {
    if (name.substr(0, prefix.size()) == prefix) return true;
  }
  for (const std::string_view allowed : kNames) {
    if (name == allowed) return true;
  }
  return false;
}

bool looks_like_secret(std::string_view value) {
  if (has_url_password(value)) return true;
  for (const std::string_view prefix : kSecretPrefixes) {
    if (value.substr(0, prefix.size()) == prefix && value.size() > prefix.size() + 4) return true;
  }
  size_t begin = 0;
  for (size_t i = 0; i <= value.size(); ++i) {
    if (i < value.size() && is_word(value[i])) continue;
    if (word_is_key(value.substr(begin, i - begin))) return true;
    begin = i + 1;
  }
  return false;
}

}  // namespace preserve
