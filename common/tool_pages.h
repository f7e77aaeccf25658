// SPDX-License-Identifier: Apache-2.0
// A tool's command line as manual page and as completions for shells, made from the options that it
// parses: they cannot disagree with it. The build runs every tool with --tool-page FORM and
// installs the results.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>

#include "common/cli.h"

namespace preserve {

inline constexpr std::string_view kToolPageOption = "--tool-page";

// `form` is man (troff, section 1), bash, zsh or fish. usage_error for another.
std::string tool_page(std::string_view form, const CLI::App& app, const ToolInfo& info);

}  // namespace preserve
