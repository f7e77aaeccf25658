// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/process_facts.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "profiler/collector/environment.h"

extern char** environ;

namespace preserve::collector {
namespace {

constexpr size_t kTextBytes = 32 << 10;
constexpr size_t kCommandBytes = 4096;
constexpr size_t kValueBytes = 512;  // longer values are lists of hosts and the like

alignas(8) char text[kTextBytes];
size_t used = 0;

void append(std::string_view part) {
  if (used + part.size() + 1 > kTextBytes - 8) return;
  std::memcpy(text + used, part.data(), part.size());
  used += part.size();
  text[used++] = '\0';
}

void add_fact(std::string_view name, std::string_view value) {
  if (used + name.size() + value.size() + 2 > kTextBytes - 8) return;
  append(name);
  append(value);
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// "--name=value" -> "--name", "-pvalue" -> "-p"; empty where there is no option.
std::string_view option_name(std::string_view argument) {
  if (argument.size() < 2 || argument[0] != '-') return {};
  if (argument[1] != '-')
    return is_letter(argument[1]) ? argument.substr(0, 2) : argument.substr(0, 0);
  size_t end = 2;
  while (end < argument.size() &&
         (is_letter(argument[end]) || (argument[end] >= '0' && argument[end] <= '9') ||
          argument[end] == '-' || argument[end] == '_' || argument[end] == '.')) {
    ++end;
  }
  const bool whole = end == argument.size() || argument[end] == '=';
  const std::string_view name = argument.substr(0, whole && end > 2 ? end : 0);
  return looks_like_secret(name) ? name.substr(0, 0) : name;
}

// Program and names of options, joined by spaces: values may be anything, passwords too. All
// arguments when that was asked for, what looks like a credential replaced.
std::string_view command_line() {
  const char* asked = std::getenv("PRESERVE_ARGUMENTS");
  const bool values = asked != nullptr && std::strcmp(asked, "1") == 0;
  static char raw[kCommandBytes], joined[kCommandBytes + 8];
  const int fd = ::open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  const ssize_t got = fd < 0 ? 0 : ::read(fd, raw, sizeof(raw));
  if (fd >= 0) ::close(fd);
  const std::string_view all(raw, got > 0 ? static_cast<size_t>(got) : 0);
  size_t out = 0;
  Next next = Next::any;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find('\0', begin), all.size());
    const std::string_view argument = all.substr(begin, end - begin);
    const bool is_program = begin == 0;
    const bool cut = end == sizeof(raw);  // what makes it a secret may be what is missing
    begin = end + 1;
    std::string_view shown = argument, hidden;
    if (!values) {
      shown = is_program ? argument.substr(argument.rfind('/') + 1) : option_name(argument);
      if (shown.empty()) continue;
    } else {
      const bool secret = next == Next::secret || (cut && !is_program) ||
                          (next == Next::user && argument.find(':') != std::string_view::npos);
      shown = argument.substr(0, secret ? 0 : shown_bytes(argument));
      if (shown.size() < argument.size()) hidden = "***";
      next = is_program ? Next::any : next_argument(argument);
    }
    if (out + shown.size() + hidden.size() + 1 > kCommandBytes) break;
    if (out > 0) joined[out++] = ' ';
    std::memcpy(joined + out, shown.data(), shown.size());
    out += shown.size();
    if (!hidden.empty()) std::memcpy(joined + out, hidden.data(), hidden.size());
    out += hidden.size();
  }
  return {joined, out};
}

}  // namespace

ProcessFacts gather_process_facts(const char* host) {
  used = 0;
  add_fact("host", host);
  add_fact("command", command_line());
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view pair(*entry);
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos || equals == 0) continue;
    const std::string_view name = pair.substr(0, equals), value = pair.substr(equals + 1);
    if (value.size() > kValueBytes || !environment_name_allowed(name) || looks_like_secret(value)) {
      continue;
    }
    constexpr std::string_view kPrefix = "env.";
    static char prefixed[256];
    if (kPrefix.size() + name.size() >= sizeof(prefixed)) continue;
    std::memcpy(prefixed, kPrefix.data(), kPrefix.size());
    std::memcpy(prefixed + kPrefix.size(), name.data(), name.size());
    add_fact({prefixed, kPrefix.size() + name.size()}, value);
  }
  while (used % 8 != 0) text[used++] = '\0';
  return {text, used};
}

}  // namespace preserve::collector
