// SPDX-License-Identifier: Apache-2.0
#include "common/tool_pages.h"

#include <algorithm>
#include <vector>

#include "common/error.h"

namespace preserve {
namespace {

struct PageOption {
  std::vector<std::string> shorts, longs;  // without dashes
  std::string description, group, value;   // value: empty for a flag
  std::string standard;                    // its default; empty: none
  std::vector<std::string> choices;        // when the value is one of a few words
  bool positional = false, many = false;
};

// CLI11 puts the words that a value may have into its type: "WORD:{flow, bfs, none}".
std::vector<std::string> choices_of(const std::string& type) {
  std::vector<std::string> words;
  const size_t open = type.find('{'), close = type.find('}');
  if (open == std::string::npos || close == std::string::npos || close < open) return words;
  std::string word;
  for (const char letter : type.substr(open + 1, close - open - 1)) {
    if (letter == ',') {
      words.push_back(std::move(word));
      word.clear();
    } else if (letter != ' ') {
      word += letter;
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

std::vector<PageOption> options_of(const CLI::App& app) {
  std::vector<PageOption> options;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;  // hidden
    PageOption page;
    page.shorts = option->get_snames();
    page.longs = option->get_lnames();
    page.description = option->get_description();
    page.group = option->get_group();
    page.positional = option->nonpositional() ? false : option->get_positional();
    page.many = option->get_items_expected_max() > 1;
    if (page.positional) {
      page.longs = {option->get_single_name()};
      page.shorts.clear();
    }
    const std::string type = option->get_type_name();
    if (option->get_items_expected_max() > 0) page.value = type.substr(0, type.find(':'));
    page.choices = choices_of(type);
    page.standard = option->get_default_str();
    options.push_back(std::move(page));
  }
  return options;
}

std::string replaced(std::string_view text, std::string_view special, std::string_view escape) {
  std::string out;
  for (const char letter : text) {
    if (special.find(letter) != special.npos) out += escape;
    out += letter;
  }
  return out;
}

// -- man ---------------------------------------------------------------------------------------

std::string troff(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (const char letter : text) {
    if (line_start && (letter == '.' || letter == '\'')) out += "\\&";
    if (letter == '\\') {
      out += "\\e";
    } else if (letter == '-') {
      out += "\\-";
    } else {
      out += letter;
    }
    line_start = letter == '\n';
  }
  return out;
}

std::string man_option(const PageOption& option) {
  std::string head;
  const auto add = [&](const std::string& name) {
    head += fmt::format("{}\\fB{}\\fR", head.empty() ? "" : ", ", troff(name));
  };
  for (const std::string& name : option.shorts) add("-" + name);
  for (const std::string& name : option.longs) add((option.positional ? "" : "--") + name);
  if (!option.value.empty() && !option.positional)
    head += fmt::format(" \\fI{}\\fR", troff(option.value));
  std::string out = fmt::format(".TP\n{}\n{}", head, troff(option.description));
  if (!(option.choices.empty() && option.standard.empty()) && out.back() != '.') out += '.';
  if (!option.choices.empty()) {
    out += troff(fmt::format("\nOne of {}.", fmt::join(option.choices, ", ")));
  }
  if (!option.standard.empty()) out += troff(fmt::format("\nDefault: {}.", option.standard));
  return out + "\n";
}

std::string man_page(const std::vector<PageOption>& options, const ToolInfo& info) {
  std::string name = info.name;
  std::ranges::transform(name, name.begin(),
                         [](unsigned char letter) { return std::toupper(letter); });
  std::string purpose = info.purpose;
  if (!purpose.empty() && purpose.back() == '.') purpose.pop_back();
  std::string out = fmt::format(
      ".TH {} 1 \"\" \"preserve {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\n",
      troff(name), PRESERVE_VERSION, troff(info.name), troff(purpose), troff(info.name));
  if (info.usage.empty()) {
    out += "[\\fIOPTIONS\\fR]";
    for (const PageOption& option : options) {
      if (!option.positional) continue;
      out += fmt::format(" \\fI{}\\fR{}", troff(option.longs.front()), option.many ? "..." : "");
    }
    out += "\n";
  } else {
    out += troff(info.usage) + "\n";
  }
  std::string group;
  for (const bool positional : {true, false}) {
    for (const PageOption& option : options) {
      if (option.positional != positional) continue;
      const std::string section = positional ? "ARGUMENTS" : option.group;
      if (section != group) {
        std::string upper = section;
        std::ranges::transform(upper, upper.begin(),
                               [](unsigned char letter) { return std::toupper(letter); });
        out += fmt::format(".SH \"{}\"\n", troff(upper));
        group = section;
      }
      out += man_option(option);
    }
  }
  if (!info.footer.empty()) out += fmt::format(".SH NOTES\n.nf\n{}\n.fi\n", troff(info.footer));
  out +=
      ".SH \"SEE ALSO\"\n.BR preserve\\-profile (1),\n.BR preserve\\-calibrate (1),\n.BR "
      "preserve\\-tune (1),\n"
      ".BR preserve\\-replay (1),\n.BR preserve\\-apply (1),\n.BR preserve\\-explore (1),\n.BR "
      "preserve\\-report (1)\n";
  return out;
}

// -- completions -------------------------------------------------------------------------------

std::vector<std::string> words_of(const PageOption& option) {
  std::vector<std::string> words;
  for (const std::string& name : option.shorts) words.push_back("-" + name);
  for (const std::string& name : option.longs) words.push_back("--" + name);
  return words;
}

std::string function_of(const ToolInfo& info) {
  std::string name = "_" + info.name;
  std::ranges::replace(name, '-', '_');
  return name;
}

std::string bash_completion(const std::vector<PageOption>& options, const ToolInfo& info) {
  std::vector<std::string> all;
  std::string values, files;
  for (const PageOption& option : options) {
    if (option.positional) continue;
    const std::vector<std::string> words = words_of(option);
    all.insert(all.end(), words.begin(), words.end());
    if (option.value.empty()) continue;
    const std::string pattern = fmt::format("{}", fmt::join(words, "|"));
    if (option.choices.empty()) {
      files += (files.empty() ? "" : "|") + pattern;
    } else {
      values += fmt::format("    {}) COMPREPLY=($(compgen -W '{}' -- \"$cur\")); return ;;\n",
                            pattern, fmt::join(option.choices, " "));
    }
  }
  if (!files.empty())
    values += fmt::format("    {}) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", files);
  const std::string function = function_of(info);
  return fmt::format(R"(# bash completion for {name}, made from its options.
{function}() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} i
  for ((i = 1; i < COMP_CWORD; i++)); do  # what follows is a command of its own
    if [[ ${{COMP_WORDS[i]}} == -- ]]; then
      if ((i == COMP_CWORD - 1)); then COMPREPLY=($(compgen -c -- "$cur")); else COMPREPLY=($(compgen -f -- "$cur")); fi
      return
    fi
  done
  case $prev in
{values}  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W '{all}' -- "$cur"))
  else
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}}
complete -o filenames -F {function} {name}
)",
                     fmt::arg("name", info.name), fmt::arg("function", function),
                     fmt::arg("values", values.empty() ? "    *) ;;\n" : values),
                     fmt::arg("all", fmt::join(all, " ")));
}

std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char letter : text) {
    if (letter == '\'') {
      out += "'\\''";
    } else {
      out += letter == '\n' ? ' ' : letter;
    }
  }
  return out + "'";
}

std::string zsh_completion(const std::vector<PageOption>& options, const ToolInfo& info) {
  std::string out = fmt::format(
      "#compdef {}\n# Made from the options of {}.\n_arguments -s -S \\\n", info.name, info.name);
  for (const PageOption& option : options) {
    if (option.positional) continue;
    for (const std::string& word : words_of(option)) {
      std::string entry = word;
      if (!option.value.empty() && word.starts_with("--")) entry += "=";
      entry += fmt::format("[{}]", replaced(option.description, "[]\\:", "\\"));
      if (!option.value.empty()) {
        entry += fmt::format(":{}:", replaced(option.value, ":\\", "\\"));
        entry +=
            option.choices.empty() ? "_files" : fmt::format("({})", fmt::join(option.choices, " "));
      }
      out += fmt::format("  {} \\\n", in_quotes(entry));
    }
  }
  return out + "  '*:file:_files'\n";
}

std::string fish_completion(const std::vector<PageOption>& options, const ToolInfo& info) {
  std::string out = fmt::format("# fish completion for {}, made from its options.\n", info.name);
  for (const PageOption& option : options) {
    if (option.positional) continue;
    out += "complete -c " + info.name;
    for (const std::string& name : option.shorts) out += " -s " + name;
    for (const std::string& name : option.longs) out += " -l " + name;
    if (!option.value.empty()) out += " -r";
    if (!option.choices.empty()) {
      out += fmt::format(" -f -a {}", in_quotes(fmt::format("{}", fmt::join(option.choices, " "))));
    }
    std::string description = replaced(option.description, "\\", "\\");
    out += fmt::format(" -d {}\n", in_quotes(description));
  }
  return out;
}

}  // namespace

std::string tool_page(std::string_view form, const CLI::App& app, const ToolInfo& info) {
  const std::vector<PageOption> options = options_of(app);
  if (form == "man") return man_page(options, info);
  if (form == "bash") return bash_completion(options, info);
  if (form == "zsh") return zsh_completion(options, info);
  if (form == "fish") return fish_completion(options, info);
  throw usage_error("{} takes man, bash, zsh or fish", kToolPageOption);
}

}  // namespace preserve
