// SPDX-License-Identifier: Apache-2.0
// The files that a library inside a program has of its own: the plan that it was started with, and
// the outcome that it leaves. No heap; nullptr or empty where something cannot be had.
#pragma once

#include <limits.h>

#include <cstddef>
#include <span>
#include <string_view>

#include "apply/outcome_file.h"

namespace preserve::apply {

std::span<const std::byte> map_plan(const char* path);

// A file of this size, all of it on disk, mapped; nullptr when that cannot be had. An old content
// is kept where `keep` says so.
void* map_file(const char* path, size_t bytes, bool keep);
void* map_own(size_t bytes);  // zeroed pages

// Where the process that `header` describes leaves its outcome; empty: the path is too long.
void name_outcome(char (&path)[PATH_MAX], std::string_view folder, const OutcomeHeader& header);
// An outcome of this size, in pages of our own where the folder has no room for the file.
void* map_outcome(const char* path, size_t bytes, bool keep);

// What is known of the process as it loads the library.
void describe(OutcomeHeader& header);

}  // namespace preserve::apply
