// SPDX-License-Identifier: Apache-2.0
// Names come from foreign processes and files; SQLite and JSON want UTF-8.
#pragma once

#include <string>
#include <string_view>

namespace preserve {

// `text` with each byte that is not part of valid UTF-8 (RFC 3629: no surrogates, no overlong
// forms) replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

}  // namespace preserve
