// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace preserve {

// A word of a command that is shown to be copied: a shell makes `word` of it again. With characters
// that printable() would change it is written as $'\x1b' (bash, zsh, ksh).
std::string shell_word(std::string_view word);

}  // namespace preserve
