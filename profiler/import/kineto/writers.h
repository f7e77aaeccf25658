// SPDX-License-Identifier: Apache-2.0
// Who wrote a Chrome trace, and what its processes and threads stand for where events have no
// category that says it: JAX and TensorFlow, Ascend's torch_npu and msprof, Intel's unitrace,
// rocprof, PyTorch's first profiler.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace preserve::import {

enum class Role : uint8_t {
  unknown,
  host,
  device,         // operators of a GPU, a thread is a stream
  communication,  // Ascend's: collectives, and the tasks that they are made of
  derived         // the same time again, in other words
};

struct ProcessRole {
  Role role = Role::unknown;
  std::optional<int64_t> device{};
  bool threads_are_devices = false;
};

// By the name of a process or by its id where that is a word.
ProcessRole role_of_process(std::string_view name);
// Of a thread of a device: derived ones repeat what its streams say.
Role role_of_thread(std::string_view process_name, std::string_view name);

// Whether an operator of a device stands around others of its thread, whose time it repeats: loops
// and branches of XLA on a TPU.
bool encloses_others(std::string_view process_name, std::string_view operator_name);

enum class Task : uint8_t { kernel, copy, wait };
// What an Ascend task is, by its "Task Type".
Task task_of(std::string_view type);

// The writer in a phrase for a message, from the names of processes and of categories that were
// not understood (any text of them).
std::string_view writer_of(const std::map<int64_t, std::string>& processes,
                           const std::map<std::string, int64_t>& unknown, bool has_operators);

}  // namespace preserve::import
