// SPDX-License-Identifier: Apache-2.0
#include "common/cli.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <new>

#include "common/cli_options.h"
#include "common/clock.h"
#include "common/environment.h"
#include "common/error.h"
#include "common/text.h"
#include "common/tool_pages.h"

namespace preserve {
namespace {

constexpr int64_t kProgressLinePeriodNs = 5'000'000'000;
constexpr int64_t kProgressPeriodNs = 100'000'000;  // 10 Hz: more only costs the terminal

// --color beats the environment; NO_COLOR beats FORCE_COLOR (no-color.org); else a capable TTY.
bool use_color(Console::Color choice, int fd) {
  if (choice != Console::Color::automatic) return choice == Console::Color::always;
  if (!environment_variable("NO_COLOR").empty()) return false;
  if (!environment_variable("FORCE_COLOR").empty() ||
      !environment_variable("CLICOLOR_FORCE").empty()) {
    return true;
  }
  const char* term = std::getenv("TERM");
  return ::isatty(fd) != 0 && term != nullptr && std::string_view(term) != "dumb";
}

// What was printed before stands before it where both go into one file.
void write_stderr(std::string_view text) {
  (void)std::fflush(stdout);
  // Nothing sensible can be done when stderr itself is gone.
  (void)!std::fwrite(text.data(), 1, text.size(), stderr);
}

// Messages repeat what stands in files and on the command line. Of what is no text only the ends of
// lines and tabs reach a terminal.
std::string safe_for_terminal(std::string_view text) {
  std::string out;
  while (true) {
    const size_t end = std::min(text.find_first_of("\n\t"), text.size());
    out += printable(text.substr(0, end), SIZE_MAX);
    if (end == text.size()) return out;
    out += text[end];
    text.remove_prefix(end + 1);
  }
}

// CLI11 2.1 cannot be told the usage line, and does not know of a command after the options.
std::string help_text(const CLI::App& app, const ToolInfo& info) {
  std::string text = app.help();
  const size_t begin = text.find("Usage: ");
  if (info.usage.empty() || begin == std::string::npos) return text;
  return text.replace(begin, text.find('\n', begin) - begin,
                      fmt::format("Usage: {} {}", info.name, info.usage));
}

}  // namespace

void Console::configure(bool quiet, int verbosity, Color color) {
  quiet_ = quiet;
  verbosity_ = verbosity;
  color_ = use_color(color, STDERR_FILENO);
}

void Console::line(std::string_view prefix, const char* ansi, std::string_view text) {
  clear_progress();
  const std::string safe = safe_for_terminal(text);
  write_stderr(color_ && *ansi ? fmt::format("{}{}\x1b[0m{}\n", ansi, prefix, safe)
                               : fmt::format("{}{}\n", prefix, safe));
}

void Console::info(std::string_view text) {
  if (!quiet_) line("", "", text);
}
void Console::detail(std::string_view text) {
  if (!quiet_ && verbosity_ > 0) line("", "", text);
}
void Console::warn(std::string_view text) {
  if (!quiet_) line("warning: ", "\x1b[33m", text);
}
void Console::error(std::string_view text) {
  line(tool_ + ": error: ", "\x1b[31m", text);
}
void Console::next(std::string_view command) {
  if (!quiet_) line("next: ", "\x1b[1m", command);
}

void Console::progress(std::string_view phase, double done, double total) {
  if (quiet_) return;
  const int64_t now_ns = monotonic_ns();
  if (::isatty(STDERR_FILENO) == 0) {
    progress_line(phase, total > 0 ? done / total : 0, now_ns);
    return;
  }
  if (progress_shown_ && now_ns - progress_last_ns_ < kProgressPeriodNs) return;
  progress_last_ns_ = now_ns;
  progress_shown_ = true;
  const double part = total > 0 ? std::min(1.0, std::max(0.0, done / total)) : 0;
  constexpr int kWidth = 30;
  const int filled = static_cast<int>(part * kWidth);
  // Back to the start of the line: what a child process prints does not follow the bar.
  write_stderr(fmt::format("\r\x1b[K{} [{:=<{}}{:<{}}] {:3.0f}%\r", phase, "", filled, "",
                           kWidth - filled, part * 100));
}

// In a log file, or under a launcher: whole lines, seldom.
void Console::progress_line(std::string_view phase, double part, int64_t now_ns) {
  if (progress_last_ns_ == 0) progress_last_ns_ = now_ns;
  if (now_ns - progress_last_ns_ < kProgressLinePeriodNs) return;
  progress_last_ns_ = now_ns;
  write_stderr(fmt::format("{} {:.0f} %\n", phase, 100 * std::clamp(part, 0.0, 1.0)));
}

void Console::clear_progress() {
  if (!progress_shown_) return;
  write_stderr("\r\x1b[K");
  progress_shown_ = false;
}

void require_file(std::string_view output, std::string_view what) {
  if (output == "-") {
    throw usage_error("{} is a database and cannot go to standard output: name a file", what);
  }
}

int run_tool(int argc, char** argv, const ToolInfo& info,
             const std::function<void(CLI::App&)>& define, const std::function<int(Console&)>& body,
             bool allow_no_arguments) {
  Console console;
  console.set_tool(info.name);
  bool quiet = false;
  int verbosity = 0;
  Console::Color color = Console::Color::automatic;
  const std::map<std::string, Console::Color> colors{{"auto", Console::Color::automatic},
                                                     {"always", Console::Color::always},
                                                     {"never", Console::Color::never}};
  CLI::App app(info.purpose, info.name);
  app.footer(info.footer);
  app.get_formatter()->column_width(34);
  app.set_version_flag("--version", fmt::format("{} {}{}{}", info.name, PRESERVE_VERSION,
                                                info.versions.empty() ? "" : "\n", info.versions));
  define(app);
  const char* common = "Common options";
  app.add_flag("-q,--quiet", quiet, "Print nothing but results and errors")->group(common);
  app.add_flag("-v,--verbose", verbosity, "Say more on stderr (repeatable)")->group(common);
  app.add_option("--color", color, "auto, always or never; NO_COLOR and FORCE_COLOR are obeyed")
      ->transform(CLI::CheckedTransformer(colors).description(""))
      ->type_name("WHEN")
      ->default_str("auto")
      ->group(common);
  try {
    if (argc == 3 && argv[1] == kToolPageOption) {  // for the build; shown nowhere
      fmt::print("{}", tool_page(argv[2], app, info));
      return kExitDone;
    }
    if (argc <= 1 && !allow_no_arguments) {
      write_stderr(fmt::format("{}: {}\nTry '{} --help'.\n", info.name, info.purpose, info.name));
      return kExitBadInput;
    }
    try {
      app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
      fmt::print("{}", help_text(app, info));
      return kExitDone;
    } catch (const CLI::CallForVersion& version) {
      fmt::print("{}\n", version.what());
      return kExitDone;
    } catch (const CLI::ParseError& error) {
      // An option that nobody knows explains the others: its value was taken for something else.
      const std::string unknown = unknown_option(app);
      throw usage_error("{}\nTry '{} --help'.", unknown.empty() ? error.what() : unknown,
                        info.name);
    }
    console.configure(quiet, verbosity, color);
    const int code = body(console);
    console.clear_progress();
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {  // then or before a line on stderr
      throw input_error("cannot write to standard output");
    }
    return code;
  } catch (const Error& error) {
    console.error(error.what());
    switch (error.kind()) {
      case ErrorKind::usage:
      case ErrorKind::input:
        return kExitBadInput;
      case ErrorKind::not_applicable:
        return kExitNotApplicable;
      case ErrorKind::internal:
        break;
    }
    return kExitInternal;
  } catch (const std::bad_alloc&) {
    console.error("not enough memory");
    return kExitBadInput;
  } catch (const std::exception& error) {
    console.error(fmt::format("internal: {}", error.what()));
    return kExitInternal;
  }
}

}  // namespace preserve
