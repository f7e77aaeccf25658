# SPDX-License-Identifier: Apache-2.0
# Script mode: writes OUT, a C++ source defining preserve::SYMBOL with the bytes of IN.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
string(REGEX REPLACE "(('[^']*',){24})" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include <string_view>
namespace preserve {
namespace {
constexpr char kBytes[] = {${bytes}'\\0'};
}
extern const std::string_view ${SYMBOL};
const std::string_view ${SYMBOL}{kBytes, sizeof(kBytes) - 1};
}  // namespace preserve
")
