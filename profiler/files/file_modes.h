// SPDX-License-Identifier: Apache-2.0
// The modes of preserve-profile that run no command but work on files: --import, --summary,
// --export.
#pragma once

#include <string>
#include <vector>

#include "common/cli.h"

namespace preserve {

struct FileModes {
  std::vector<std::string> import_files{}, kernel_rules{}, export_what{};  // FORMAT TRACE
  std::string summary, schedule;
  bool partial = false;

  void define(CLI::App& app);
  bool requested() const {
    return !import_files.empty() || !export_what.empty() || !summary.empty();
  }
  // `output` is -o, empty when it was not given.
  int run(const std::string& output, bool force, const std::vector<std::string>& step_globs,
          Console& console) const;
};

}  // namespace preserve
