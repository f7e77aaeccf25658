// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/environment.h"

#include <algorithm>

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
constexpr std::string_view kSecretPrefixes[] = {"hf_",         "sk-",       "sk_live_",
                                                "sk_test_",    "rk_live_",  "rk_test_",
                                                "ghp_",        "gho_",      "ghs_",
                                                "ghu_",        "ghr_",      "gsk_",
                                                "r8_",         "npm_",      "pypi-",
                                                "AKIA",        "ASIA",      "AIza",
                                                "github_pat_", "glpat-",    "glsa_",
                                                "glrt-",       "gldt-",     "xoxa-",
                                                "xoxb-",       "xoxe",      "xoxp-",
                                                "xoxs-",       "xapp-",     "whsec_",
                                                "dckr_pat_",   "dckr_oat_", "eyJ",
                                                "nvapi-",      "ya29.",     "GOCSPX-",
                                                "1//0",        "hvs.",      "hvb.",
                                                "SG.",         "shpat_",    "shpss_",
                                                "dop_v1_",     "doo_v1_",   "sq0atp-",
                                                "sq0csp-",     "lin_api_",  "figd_",
                                                "PMAK-",       "ATATT",     "ATBB",
                                                "tskey-",      "sntrys_",   "xkeysib-",
                                                "LTAI",        "ntn_",      "AGE-SECRET-KEY-",
                                                "ops_eyJ",     "Bearer ",   "-----BEGIN "};
// Whole words: --max-tokens is a number, --hf-token and hfToken are not.
constexpr std::string_view kSecretWords[] = {
    "token",      "secret",   "secrets",     "password",      "passwords", "passwd", "credential",
    "apikey",     "auth",     "credentials", "pass",          "pwd",       "pw",     "phrase",
    "passphrase", "passcode", "pin",         "authorization", "bearer",    "jwt",    "cookie",
    "otp",        "cookies",  "session",     "sig",           "signature", "sas",    "dsn",
    "oauth",      "creds",    "cred",        "userpwd",       "mnemonic",  "totp",   "mfa",
    "hmac",       "csrf",     "xsrf"};
// Words that go on before it, written as one: dbpassword, storepass.
constexpr std::string_view kSecretEnds[] = {"token",     "secret",     "password",   "passwd",
                                            "pass",      "apikey",     "secretkey",  "accesskey",
                                            "sessionid", "privatekey", "accountkey", "authkey"};
constexpr std::string_view kHarmlessWords[] = {"bypass", "compass", "trespass", "spin"};
constexpr std::string_view kKeyWords[] = {"key", "keys"};
// user:password follows.
constexpr std::string_view kUserWords[] = {"u", "user", "username", "login"};
constexpr size_t kKeyLength = 20;  // shorter than the keys that services issue
constexpr size_t kLongKeyLength = 32;

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
  return std::ranges::equal(text, lower_case_word, {}, lower);
}

bool is_word(char c) {
  return is_upper(c) || is_lower(c) || is_digit(c);
}

bool is_name(char c) {
  return is_word(c) || c == '-' || c == '_' || c == '.';
}

bool is_space_or_quote(char c) {
  return c == ' ' || c == '\t' || c == '"' || c == '\'' || c == '\\';
}

template <size_t count>
bool is_any_of(std::string_view word, const std::string_view (&words)[count]) {
  return std::ranges::any_of(
      words, [&](std::string_view other) { return equal_ignoring_case(word, other); });
}

std::string_view without_number(std::string_view word) {  // token2
  while (!word.empty() && is_digit(word.back())) word.remove_suffix(1);
  return word;
}

bool word_names_a_secret(std::string_view word) {
  word = without_number(word);
  if (is_any_of(word, kSecretWords)) return true;
  if (is_any_of(word, kHarmlessWords)) return false;
  return std::ranges::any_of(kSecretEnds, [&](std::string_view end) {
    return word.size() > end.size() &&
           equal_ignoring_case(word.substr(word.size() - end.size()), end);
  });
}

// The next word of a name from `begin` on, where the following one begins at `*next`: "API", "key"
// of API_key, "hf", "Token" of hfToken, "H", "Auth" of HAuth.
std::string_view next_word(std::string_view name, size_t begin, size_t* next) {
  while (begin < name.size() && !is_word(name[begin])) ++begin;
  size_t end = begin;
  while (end < name.size() && is_word(name[end])) {
    const bool inside = end > begin;
    if (inside && is_upper(name[end]) && !is_upper(name[end - 1])) break;
    if (inside && is_upper(name[end]) && end + 1 < name.size() && is_lower(name[end + 1])) break;
    ++end;
  }
  *next = end;
  return name.substr(begin, end - begin);
}

std::string_view last_word(std::string_view name) {
  std::string_view last;
  for (size_t next = 0; next < name.size();) {
    const std::string_view word = next_word(name, next, &next);
    if (!word.empty()) last = word;
  }
  return last;
}

// -Dkey=X, -Dauth=X. A whole word: letters before the end of one make other words, as -bypass.
bool short_option_names_a_secret(std::string_view option) {
  if (option.size() <= 2 || option[0] != '-' || option[1] == '-') return false;
  size_t next = 0;
  if (is_any_of(without_number(next_word(option, 0, &next)), kHarmlessWords)) return false;
  const std::string_view word = without_number(next_word(option, 2, &next));
  return is_any_of(word, kSecretWords) || (next == option.size() && is_any_of(word, kKeyWords));
}

bool names_a_user(std::string_view option) {
  return option.substr(0, 1) == "-" && is_any_of(last_word(option), kUserWords);
}

bool is_scheme(std::string_view word) {  // of HTTP's header Authorization
  return equal_ignoring_case(word, "bearer") || equal_ignoring_case(word, "basic");
}

// -pPASSWORD, and what follows -p: it may also be a port, which nobody misses.
bool is_password_option(std::string_view option) {
  return option.size() >= 2 && option[0] == '-' && (option[1] == 'p' || option[1] == 'P');
}

// One word of at least kKeyLength characters with digits, and either both cases or only hex digits;
// a longer one with letters and digits.
bool word_is_key(std::string_view word) {
  if (word.size() < kKeyLength) return false;
  bool upper = false, lower_case = false, digit = false, hex = true;
  for (const char c : word) {
    upper |= is_upper(c);
    lower_case |= is_lower(c);
    digit |= is_digit(c);
    hex &= is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'f');
  }
  const bool both = upper && lower_case;
  return digit && (upper || lower_case) && (both || hex || word.size() >= kLongKeyLength);
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

bool begins_with_prefix(std::string_view value) {
  return std::ranges::any_of(kSecretPrefixes, [&](std::string_view prefix) {
    return value.starts_with(prefix) && value.size() > prefix.size() + 4;
  });
}

bool holds_value(std::string_view argument) {
  return argument.find_first_of("=: ") != std::string_view::npos;
}

// Whether a value begins with the text: "=x", ":x", ">x" of XML, and as a URL writes "=" and ":".
bool assigns(std::string_view text) {
  if (text.empty() || text.substr(0, 3) == "://") return false;
  if (text[0] == '=' || text[0] == ':' || text[0] == '>') return true;
  for (const std::string_view sign : {"%3d", "%3D", "%3a", "%3A"}) {
    if (text.substr(0, 3) == sign) return true;
  }
  return false;
}

bool is_bound(char c) {
  return std::string_view("/ =,;\"'").find(c) != std::string_view::npos;
}

size_t begin_of_user(std::string_view argument, size_t end) {
  size_t begin = end;
  while (begin > 0 && !is_bound(argument[begin - 1])) --begin;
  return begin;
}

// Whether a user may end at this colon: not a scheme, the port of a URL's host, or a name in JSON.
bool ends_user(std::string_view argument, size_t colon) {
  const size_t begin = begin_of_user(argument, colon);
  const std::string_view after = argument.substr(colon + 1);
  if (after.substr(0, 2) == "//") return false;
  if (begin == colon && begin > 0 && is_space_or_quote(argument[begin - 1])) return false;
  if (begin < 3 || argument.substr(begin - 3, 3) != "://") return true;
  size_t digits = 0;
  while (digits < after.size() && is_digit(after[digits])) ++digits;
  return digits == 0 || (digits < after.size() && after[digits] != '/');
}

// Bytes before user:password@ and, in a URL, before a user that may be a token. A password may hold
// any character, so all between a user's colon and an @ is taken for one.
size_t before_user(std::string_view argument) {
  const size_t last = argument.rfind('@');
  if (last == std::string_view::npos) return argument.size();
  for (size_t colon = argument.find(':'); colon < last; colon = argument.find(':', colon + 1)) {
    if (ends_user(argument, colon)) return begin_of_user(argument, colon);
  }
  for (size_t at = argument.find('@'); at < argument.size(); at = argument.find('@', at + 1)) {
    const size_t begin = begin_of_user(argument, at);
    const bool web = begin >= 7 && (argument.substr(begin - 7, 7) == "http://" ||
                                    argument.substr(begin - 7, 7) == "ttps://");
    if (web && at > begin) return begin;
  }
  return argument.size();
}

}  // namespace

bool names_a_secret(std::string_view name) {
  for (size_t next = 0; next < name.size();) {
    if (word_names_a_secret(next_word(name, next, &next))) return true;
  }
  if (is_any_of(last_word(name), kKeyWords)) return true;  // --key-value=3 is none
  return short_option_names_a_secret(name);
}

bool environment_name_allowed(std::string_view name) {
  if (names_a_secret(name)) return false;
  return std::ranges::find(kNames, name) != std::end(kNames) ||
         std::ranges::any_of(kPrefixes,
                             [&](std::string_view prefix) { return name.starts_with(prefix); });
}

bool looks_like_secret(std::string_view value) {
  if (has_url_password(value)) return true;
  size_t begin = 0;
  for (size_t i = 0; i <= value.size(); ++i) {
    if (i < value.size() && is_word(value[i])) continue;
    if (word_is_key(value.substr(begin, i - begin))) return true;
    begin = i + 1;
  }
  for (begin = 0; begin < value.size(); ++begin) {
    if (begin > 0 && (is_name(value[begin - 1]) || value[begin - 1] == '/')) continue;
    if (begins_with_prefix(value.substr(begin))) return true;
  }
  return false;
}

size_t shown_bytes(std::string_view argument) {
  if (looks_like_secret(argument)) return 0;
  for (size_t begin = 0; begin < argument.size();) {
    size_t end = begin;
    while (end < argument.size() && is_name(argument[end])) ++end;
    const std::string_view name = argument.substr(begin, end - begin);
    size_t mark = end;  // what stands between a name and its value
    while (mark < argument.size() && is_space_or_quote(argument[mark])) ++mark;
    const bool assigned = assigns(argument.substr(mark));
    const bool followed = mark > end && mark < argument.size();
    if (assigned && names_a_secret(name)) return mark + 1;
    if (followed && (is_scheme(name) || names_a_secret(name))) return mark;
    if (is_password_option(name)) {
      if (name.size() > 2) return begin + 2;
      if (mark < argument.size()) return mark;
    }
    const std::string_view rest = argument.substr(end);
    if ((assigned || followed) && names_a_user(name) && rest.find(':', 1) < rest.size()) {
      return assigned ? mark + 1 : mark;
    }
    const bool attached = name.size() > 2 && is_any_of(name.substr(1, 1), kUserWords);
    if (attached && name[0] == '-' && rest.substr(0, 1) == ":") return begin + 2;
    begin = end + 1;
  }
  return before_user(argument);
}

Next next_argument(std::string_view argument) {
  if (is_scheme(argument) || argument == "-p" || argument == "-P") return Next::secret;
  if (names_a_user(argument) && !holds_value(argument)) return Next::user;
  // -password, of which shown_bytes() makes -p and its value.
  const bool option = argument.substr(0, 1) == "-" && !holds_value(argument);
  if (option && names_a_secret(argument) && !looks_like_secret(argument)) return Next::secret;
  const bool open = shown_bytes(argument) == argument.size() && !argument.empty();
  if (!open || !names_a_secret(argument)) return Next::any;
  return holds_value(argument.substr(0, argument.size() - 1)) ? Next::any : Next::secret;
}

}  // namespace preserve
