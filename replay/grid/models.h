// SPDX-License-Identifier: Apache-2.0
// Where the model configurations of a grid are: a folder that was named, else examples/models
// next to the tools, as the bundle and the build folder have it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace preserve {

struct GridModel {
  std::string name;  // as preserve-tune calls it: the file's name, or of its folder for config.json
  std::filesystem::path path;
  std::string sha256;
};

// The six of the paper.
std::vector<std::string> paper_models();

// `wanted`: names, or paths (anything with a / or ending in .json). Empty: every *.json of `folder`
// when one is given, else the paper's. `folder` empty: the one next to the tools. usage_error for a
// name that is missing, listing those that exist, and for two models of one name.
std::vector<GridModel> find_models(const std::vector<std::string>& wanted,
                                   const std::filesystem::path& folder);

}  // namespace preserve
