// SPDX-License-Identifier: Apache-2.0
// Nsight Systems' SQLite export (schemas 2.9 to 3.25) -> records, one ProcessBuilder per process
// with GPU work. Tables and columns come and go between versions: both are looked up by name, and
// what is absent is unknown, not zero.
//
// Read are kernels, copies, fills, launches, NVTX events and the facts of the GPUs. The
// environment, capture settings and all strings that none of these refer to are never touched:
// exports hold the recorded environment, with its tokens, in three places.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "profiler/import/process_builder.h"

namespace preserve::import {

struct NsysFile {
  std::vector<std::unique_ptr<ProcessBuilder>> processes{};
  std::string version{};             // "3.24.14", empty unknown
  std::vector<std::string> notes{};  // what had to be assumed
};

// input_error when the file is no nsys export, or a row cannot be used and `partial` is false.
NsysFile read_nsys(const std::filesystem::path& path, bool partial, TraceDb& db,
                   const gpu::KernelRules& rules);

}  // namespace preserve::import
