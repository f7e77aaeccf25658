// SPDX-License-Identifier: Apache-2.0
// Words for people: text from files made safe for a terminal, and numbers with their noun.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace preserve {

// Text made safe for a terminal and for one line, cut at `limit` bytes. Control bytes become \xNN;
// so do characters that reorder the text after them (bidirectional controls) and the control
// characters U+0080 to U+009F.
std::string printable(std::string_view text, size_t limit = 200);

std::string count_of(int64_t count, std::string_view noun);  // "1 rank", "2 ranks"

}  // namespace preserve
