// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/demangle.h"

#include <cxxabi.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "common/child_process.h"
#include "common/error.h"

namespace preserve::cuda {
namespace {

constexpr rlim_t kMostCpuSeconds = 1;
constexpr rlim_t kMostMemoryBytes = 256 << 20;  // beyond what the process has already
constexpr size_t kLongestName = 16 << 10;
constexpr int kMostChildren = 4;  // each but the last ended at a name that it could not do

bool is_mangled(const std::string& name) {
  return name.starts_with("_Z");
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

void limit_child() {
  long pages = 0;
  if (FILE* statm = std::fopen("/proc/self/statm", "r"); statm != nullptr) {
    if (std::fscanf(statm, "%ld", &pages) != 1) pages = 0;
    std::fclose(statm);
  }
  const rlim_t memory =
      static_cast<rlim_t>(pages) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + kMostMemoryBytes;
  const rlimit cpu{kMostCpuSeconds, kMostCpuSeconds}, space{memory, memory}, no_core{0, 0};
  ::setrlimit(RLIMIT_CPU, &cpu);
  ::setrlimit(RLIMIT_AS, &space);
  ::setrlimit(RLIMIT_CORE, &no_core);
}

// Every name after `from` with a line's end that no name contains: a zero byte.
void write_names(const std::vector<std::string>& names, size_t from) {
  limit_child();
  FILE* out = ::fdopen(STDOUT_FILENO, "w");
  if (out == nullptr) return;
  for (size_t i = from; i < names.size(); ++i) {
    if (!is_mangled(names[i])) continue;
    std::fflush(out);  // should the next one be the last
    const std::unique_ptr<char, Free> name(
        abi::__cxa_demangle(names[i].c_str(), nullptr, nullptr, nullptr));
    if (name) std::fputs(name.get(), out);
    std::fputc(0, out);
  }
  std::fflush(out);
}

// What a child makes of the names from `from` on. Returns how far it came.
size_t demangle_from(size_t from, std::vector<std::string>& names) {
  std::string text;
  try {
    Child({.argv = {}, .body = [&] { write_names(names, from); }, .pipe_output = true})
        .wait({.out = [&](std::string_view piece) { text += piece; }});
  } catch (const Error&) {
    return names.size();  // no process can be started: mangled names are readable enough
  }
  size_t at = 0;
  for (; from < names.size(); ++from) {
    if (!is_mangled(names[from])) continue;
    const size_t end = text.find('\0', at);
    if (end == std::string::npos) return from;
    if (end > at && end - at <= kLongestName) names[from] = text.substr(at, end - at);
    at = end + 1;
  }
  return from;
}

}  // namespace

std::vector<std::string> demangled(std::vector<std::string> names) {
  size_t from = 0;
  for (int i = 0; i < kMostChildren; ++i) {
    if (std::none_of(names.begin() + static_cast<ptrdiff_t>(from), names.end(), is_mangled)) break;
    from = demangle_from(from, names);
    if (from >= names.size()) break;
    ++from;  // the one that could not be done
  }
  return names;
}

}  // namespace preserve::cuda
