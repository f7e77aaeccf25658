// SPDX-License-Identifier: Apache-2.0
// Finds the examples that come with the tools.
#pragma once

#include <filesystem>
#include <string_view>

namespace preserve {

// examples/<name> of the running tool: of a bundle, of the sources of a build folder, or
// share/preserve/<name> of an installation. Empty when there is none.
std::filesystem::path shipped_folder(std::string_view name);

}  // namespace preserve
