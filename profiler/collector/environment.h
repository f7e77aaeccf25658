// SPDX-License-Identifier: Apache-2.0
// What of a process's environment and command line may be stored: an allow-list of names, and no
// value that looks like a credential or stands where one does; rather too few than too many. Used
// inside the profiled process and by importers alike, so: no allocation, no exceptions.
#pragma once

#include <cstddef>
#include <string_view>

namespace preserve {

// Launcher, threading and communication settings that explain performance.
bool environment_name_allowed(std::string_view name);
// Known token prefixes, a URL with a password, or a long word of letters and digits mixed as
// generated keys are.
bool looks_like_secret(std::string_view value);
// --api-key, hfToken, DB_PASSWORD ...
bool names_a_secret(std::string_view name);
// How many bytes of a command line's argument come before what is or may be a secret: a value under
// a name of one (--token=X, "X-Auth-Token: X", {"password":"X"}, ?sig=X), user:password, -pX. All
// when it has none.
size_t shown_bytes(std::string_view argument);
// What the argument after this one is: a secret, or one if it reads user:password.
enum class Next { any, user, secret };
Next next_argument(std::string_view argument);

}  // namespace preserve
