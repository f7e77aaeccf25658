// SPDX-License-Identifier: Apache-2.0
#include "common/foreground_child.h"

#include <elf.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "common/error.h"
#include "common/launcher_variables.h"
#include "common/text.h"

namespace preserve {
namespace {

// Of EndOnSignal, for its handler.
std::string g_file, g_text;

// Only calls that are allowed in a signal handler.
void end_at_once(int signal) {
  ::unlink(g_file.c_str());
  (void)!::write(STDERR_FILENO, g_text.data(), g_text.size());
  ::_exit(128 + signal);
}

struct sigaction ending(std::string file, std::string text) {
  g_file = std::move(file);
  g_text = std::move(text);
  struct sigaction action {};
  action.sa_handler = end_at_once;
  sigfillset(&action.sa_mask);
  return action;
}

std::string first_set(const char* RankVariables::*name) {
  for (const RankVariables& launcher : kRankVariables) {
    if (launcher.*name == nullptr) continue;
    if (std::string value = environment_variable(launcher.*name); !value.empty()) return value;
  }
  return "";
}

}  // namespace

Program find_program(const std::string& command) {
  const auto try_path = [](const std::string& path) -> Program {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
      const int error = errno;
      return {path, error == ENOENT || error == ENOTDIR ? 127 : 126, std::strerror(error)};
    }
    if (S_ISDIR(status.st_mode)) return {path, 126, "is a directory"};
    if (::access(path.c_str(), X_OK) != 0) return {path, 126, "is not executable"};
    return {path, 0, ""};
  };
  if (command.empty()) return {command, 127, "the command is empty"};
  if (command.find('/') != std::string::npos) return try_path(command);
  const char* variable = std::getenv("PATH");
  std::string rest = variable == nullptr ? "/usr/local/bin:/usr/bin:/bin" : variable;
  Program denied{command, 127, "no such command in PATH"};
  while (true) {
    const size_t colon = std::min(rest.find(':'), rest.size());
    const std::string folder = colon == 0 ? "." : rest.substr(0, colon);
    Program found = try_path(folder + "/" + command);
    if (found.code == 0) return found;
    if (found.code == 126 && found.error != "is a directory") denied = found;
    if (colon == rest.size()) return denied;
    rest.erase(0, colon + 1);
  }
}

int cannot_run(const std::string& command, const std::string& why, int code, Console& console) {
  console.error(fmt::format("cannot run {}: {}", printable(command), why));
  return code;
}

ChildResult run_child(const std::vector<std::string>& command, const Variables& environment) {
  ChildSetup setup;
  setup.argv = command;
  for (const auto& [name, value] : environment) setup.environment.push_back(name + "=" + value);
  setup.own_input = true;
  setup.forwarded = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
  Child child(setup);
  ChildResult result;
  if (child.exec_error() != 0) {
    result.started = false;
    result.error = std::strerror(child.exec_error());
  }
  const ChildEnd end = child.wait();
  result.exit_code = end.exit_code;
  result.interrupted = end.interrupted;
  return result;
}

std::filesystem::path child_library(const std::string& file_name) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  fs::path library = self.parent_path().parent_path() / "lib/preserve" / file_name;
  if (error || !fs::exists(library)) {
    throw internal_error("{} is missing: install preserve completely", library.string());
  }
  return library;
}

Variables preloading(const std::filesystem::path& library) {
  const std::string before = environment_variable("LD_PRELOAD"),
                    options = environment_variable("ASAN_OPTIONS");
  const std::string no_order = "verify_asan_link_order=0";  // the program's own come later and win
  return {{"LD_PRELOAD", before.empty() ? library.string() : library.string() + ":" + before},
          {"ASAN_OPTIONS", options.empty() ? no_order : no_order + ":" + options}};
}

Loading loading_of(const std::string& program) {
  std::ifstream file(program, std::ios::binary);
  Elf64_Ehdr head{};
  if (!file.read(reinterpret_cast<char*>(&head), sizeof(head)) ||
      std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
      head.e_phentsize != sizeof(Elf64_Phdr)) {
    return Loading::ours;
  }
  file.seekg(static_cast<std::streamoff>(head.e_phoff));
  for (int i = 0; i < head.e_phnum; ++i) {
    Elf64_Phdr part{};
    if (!file.read(reinterpret_cast<char*>(&part), sizeof(part))) return Loading::ours;
    if (part.p_type != PT_INTERP) continue;
    std::array<char, PATH_MAX> loader{};
    const auto bytes = std::min<uint64_t>(part.p_filesz, loader.size() - 1);
    file.seekg(static_cast<std::streamoff>(part.p_offset));
    file.read(loader.data(), static_cast<std::streamsize>(bytes));
    const std::filesystem::path name = std::filesystem::path(loader.data()).filename();
    return name.string().starts_with("ld-musl") ? Loading::other_library : Loading::ours;
  }
  return Loading::none;
}

std::string launched_rank() {
  return first_set(&RankVariables::rank);
}

std::string launched_ranks() {
  return first_set(&RankVariables::size);
}

EndOnSignal::EndOnSignal(std::string file, std::string text)
    : handlers_(ending(std::move(file), std::move(text))) {}

}  // namespace preserve
