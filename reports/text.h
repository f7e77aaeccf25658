// SPDX-License-Identifier: Apache-2.0
// Text from files made safe to show. Names come from foreign programs: they may hold markup,
// control bytes, bidirectional overrides or a megabyte of anything. clean() runs once, when the
// Report is built; the escape of each format runs when it is written.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace preserve::report {

inline constexpr size_t kNameLimit = 256;  // bytes kept of any text; real names are below 200

// Valid UTF-8 of at most about `limit` bytes in which nothing hides: invalid bytes become U+FFFD,
// control bytes \xNN, invisible direction and line controls \uNNNN, an overlong text "... (N
// bytes)".
std::string clean(std::string_view text, size_t limit = kNameLimit);

// Clean text cut in the middle for a narrow column: the end of a module path is what tells it
// apart.
std::string shorten(std::string_view text, size_t characters);

// Numbers that are a whole component of a dotted or slashed path become *: "layers.3.mlp.down" ->
// "layers.*.mlp.down". What the layers of a model have in common.
std::string without_layer_numbers(std::string_view name);

std::string escape_html(std::string_view text);         // for text and for quoted attributes
std::string escape_script_json(std::string_view json);  // for <script type="application/json">
// RFC 4180, always quoted. A first character that a spreadsheet takes for a formula gets a '
// before.
std::string csv_text(std::string_view text);
// Code span that survives a table cell: no mention, link, emphasis or markup comes to life in it.
std::string markdown_code(std::string_view text);

// Plain text in which nothing that Markdown could take for markup comes to life: sentences of ours
// with parts from files.
std::string markdown_prose(std::string_view text);

// 1234567 -> "1,234,567".
std::string grouped(long long value);

}  // namespace preserve::report
