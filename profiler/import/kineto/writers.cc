// SPDX-License-Identifier: Apache-2.0
#include "profiler/import/kineto/writers.h"

#include <algorithm>
#include <charconv>

#include "common/glob.h"
#include "profiler/gpu/records.h"

namespace preserve::import {
namespace {

// The first number in `text`.
std::optional<int64_t> number_in(std::string_view text) {
  const size_t digit = text.find_first_of("0123456789");
  int64_t value = 0;
  if (digit == std::string_view::npos ||
      std::from_chars(text.data() + digit, text.data() + text.size(), value).ec != std::errc()) {
    return std::nullopt;
  }
  return value;
}

struct Named {
  std::string_view pattern;  // glob over the lower-cased name
  Role role;
};
constexpr Named kProcesses[] = {{"*device:gpu:*", Role::device},          // JAX, TensorFlow
                                {"*device:tpu:*", Role::device},          //
                                {"*device:xpu:*", Role::device},          //
                                {"*device:npu:*", Role::device},          //
                                {"*host:cpu*", Role::host},               //
                                {"*device:cpu:*", Role::host},            //
                                {"device<*", Role::device},               // unitrace
                                {"host<*", Role::host},                   //
                                {"gpu?", Role::device},                   // rocprof
                                {"gpu??", Role::device},                  //
                                {"gpu ?", Role::device},                  //
                                {"gpu ? *", Role::device},                //
                                {"* gpu ?", Role::device},                // "AMD GPU 0"
                                {"cpu hip api", Role::host},              //
                                {"cpu hsa api", Role::host},              //
                                {"cuda functions", Role::device},         // PyTorch before Kineto
                                {"cpu functions", Role::host},            //
                                {"ascend hardware*", Role::device},       // torch_npu, msprof
                                {"communication*", Role::communication},  //
                                {"hccl*", Role::communication},           //
                                {"cann*", Role::host},                    //
                                {"python*", Role::host},                  //
                                {"overlap analysis*", Role::derived}};

// Of a device of JAX or TensorFlow. On a TPU "XLA Ops" is what ran, on a GPU it repeats the
// streams.
constexpr std::string_view kDerivedThreads[] = {"steps",       "xla modules",   "tensorflow*",
                                                "framework*",  "launch stats*", "source*",
                                                "*name scope*"};

bool any_holds(const std::map<int64_t, std::string>& processes, std::string_view part) {
  return std::ranges::any_of(processes, [&](const auto& entry) {
    return gpu::lower_case(entry.second).find(part) != std::string::npos;
  });
}
bool any_holds(const std::map<std::string, int64_t>& unknown, std::string_view part) {
  return std::ranges::any_of(
      unknown, [&](const auto& entry) { return entry.first.find(part) != std::string::npos; });
}

}  // namespace

ProcessRole role_of_process(std::string_view name) {
  const std::string lower = gpu::lower_case(name.substr(0, 200));
  for (const Named& known : kProcesses) {
    if (!glob_matches(known.pattern, lower)) continue;
    ProcessRole role{known.role};
    const size_t device = lower.find("device:");
    // "host1 /device:GPU:0": of several hosts the number is not enough, but each has a process.
    const bool of_a_host = device != std::string::npos && !lower.starts_with('/') &&
                           lower.find(" /device:") != std::string::npos;
    if (role.role == Role::device && !of_a_host) {
      role.device =
          number_in(std::string_view(lower).substr(device == std::string::npos ? 0 : device));
    }
    // All of an Ascend file is one device's.
    if (lower.starts_with("ascend") || role.role == Role::communication) role.device = 0;
    role.threads_are_devices = lower.starts_with("cuda functions");
    return role;
  }
  return {};
}

Role role_of_thread(std::string_view process_name, std::string_view name) {
  const std::string lower = gpu::lower_case(name.substr(0, 200));
  const bool derived = std::ranges::any_of(
      kDerivedThreads, [&](std::string_view pattern) { return glob_matches(pattern, lower); });
  const bool xla_ops = lower.find("xla ops") != std::string::npos;
  const bool repeats = xla_ops && gpu::lower_case(process_name).find("tpu") == std::string::npos;
  return derived || repeats ? Role::derived : Role::device;
}

bool encloses_others(std::string_view process_name, std::string_view operator_name) {
  constexpr std::string_view kEnclosing[] = {"while", "conditional", "call"};
  const std::string_view word = operator_name.substr(0, operator_name.find_first_of(".-_ ("));
  return std::ranges::find(kEnclosing, word) != std::end(kEnclosing) &&
         gpu::lower_case(process_name).find("tpu") != std::string::npos;
}

Task task_of(std::string_view type) {
  const std::string lower = gpu::lower_case(type.substr(0, 100));
  const auto has_any = [&](std::initializer_list<const char*> parts) {
    return std::ranges::any_of(
        parts, [&](const char* part) { return lower.find(part) != std::string::npos; });
  };
  if (has_any({"wait", "record", "notify"})) return Task::wait;
  return has_any({"memcpy", "sdma", "memset"}) ? Task::copy : Task::kernel;
}

std::string_view writer_of(const std::map<int64_t, std::string>& processes,
                           const std::map<std::string, int64_t>& unknown, bool has_operators) {
  for (const char* part : {"'COLL'", "'PROXY'", "'GROUP'"}) {
    if (any_holds(unknown, part)) return "NCCL's example profiler plugin";
  }
  if (any_holds(processes, "ascend") || any_holds(processes, "cann")) {
    return "Ascend's torch_npu or msprof";
  }
  if (any_holds(processes, "device:") || any_holds(processes, "host:cpu")) {
    return "JAX or TensorFlow";
  }
  if (any_holds(processes, "device<") || any_holds(processes, "host<")) return "Intel's unitrace";
  if (any_holds(processes, "cpu functions")) return "PyTorch's first profiler";
  if (any_holds(processes, "hsa api") || any_holds(processes, "hip api")) return "rocprof";
  if (any_holds(unknown, "devtools") || any_holds(unknown, "blink") || any_holds(unknown, "v8")) {
    return "a web browser";
  }
  if (has_operators) return "the PyTorch profiler without GPU activities";
  return "a writer that is not known";
}

}  // namespace preserve::import
