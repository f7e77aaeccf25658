// SPDX-License-Identifier: Apache-2.0
// What of a process's environment and command line may be stored: an allow-list of names, and no
// value that looks like a credential. Used inside the profiled process and by importers alike, so:
// no allocation, no exceptions.
#pragma once

#include <string_view>

namespace preserve {

// Launcher, threading and communication settings that explain performance.
bool environment_name_allowed(std::string_view name);
// Known token prefixes, a URL with a password, or a long word of letters and digits mixed as
// generated keys are.
bool looks_like_secret(std::string_view value);
// --api-key, HF_TOKEN, PASSWORD ...: what follows such a name on a command line is hidden.
bool names_a_secret(std::string_view name);

}  // namespace preserve
