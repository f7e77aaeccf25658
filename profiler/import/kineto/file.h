// SPDX-License-Identifier: Apache-2.0
// Chrome-trace JSON as PyTorch's Kineto writes it (schemas of 2021 to today, CUDA, HIP and XPU),
// and other writers of that format (writers.h) -> records, one ProcessBuilder per rank that the
// file names. The text is read in the order it comes; nothing of it is kept but names.
//
// Free text of the file (metadata, environment, user and host names, paths of the trace) is never
// read into trace.db: only the fields named in kineto.cc are.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/import/byte_source.h"
#include "profiler/import/process_builder.h"

namespace preserve::import {

struct KinetoFile {
  std::vector<std::unique_ptr<ProcessBuilder>> processes{};  // at least one
  int64_t base_ns = 0;                                       // to add to all times
  int64_t events = 0, host_events = 0, activities = 0;
  size_t launching_processes = 0;  // at most, of one rank
  bool replays = false;            // graphs
  int64_t frames_left_out = 0;     // Python stack frames that are no modules
  int64_t strings_cut = 0;         // names and texts longer than JsonReader's window
  int64_t devices_left_out = 0;    // properties of more GPUs than are kept
  // Events with a duration that were not understood, by what they say they are; all are counted in
  // loss kind unknown_event.
  std::map<std::string, int64_t> unknown{};
  std::string_view writer{};  // a phrase: who seems to have written the file
  std::string damage{};       // why reading stopped early (partial imports only)
};

// Reads all of what `open` opens, and once more where names of processes come after events that
// they change the meaning of. `file` is for messages. Without `partial` the first GPU record that
// cannot be used, and text that stops or breaks, are input_error; with it they are counted.
KinetoFile read_kineto(const std::function<std::unique_ptr<ByteSource>()>& open,
                       const std::string& file, bool partial, TraceDb& db,
                       const gpu::KernelRules& rules);

}  // namespace preserve::import
