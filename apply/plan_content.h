// SPDX-License-Identifier: Apache-2.0
// A plan file while it is put together, outside the program that will read it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apply/plan_file.h"

namespace preserve::apply {

struct PlanContent {
  PlanContent() {
    header.turn_ns = kDefaultTurnNs;
    header.idle_turns = kDefaultIdleTurns;
    header.deadline_pairs = kDefaultDeadlinePairs;
    header.control_every = kDefaultControlEvery;
    header.sample_capacity = kDefaultSampleCapacity;
  }

  PlanHeader header{};
  std::vector<PlanCollective> collectives{};
  std::vector<PlanWindow> windows{};
  std::vector<PlanSlice> slices{};
  std::vector<PlanTensor> tensors{};
  std::string text{};

  PlanText add_text(std::string_view added) {
    const PlanText place{static_cast<uint32_t>(text.size()), static_cast<uint32_t>(added.size())};
    text += added;
    return place;
  }

  // The file. Whether it is a good one, PlanView says.
  std::string encoded() const {
    PlanHeader head = header;
    std::memcpy(head.magic, kPlanMagic, sizeof(head.magic));
    head.version = kPlanVersion;
    head.header_bytes = sizeof(head);
    head.collectives = static_cast<uint32_t>(collectives.size());
    head.windows = static_cast<uint32_t>(windows.size());
    head.slices = static_cast<uint32_t>(slices.size());
    head.tensors = static_cast<uint32_t>(tensors.size());
    head.text_bytes = static_cast<uint32_t>(text.size());
    std::string file(sizeof(head), '\0');
    append(file, collectives);
    append(file, windows);
    append(file, slices);
    append(file, tensors);
    file += text;
    head.file_bytes = file.size();
    std::memcpy(file.data(), &head, sizeof(head));
    return file;
  }

 private:
  template <typename T>
  static void append(std::string& file, const std::vector<T>& items) {
    file.append(reinterpret_cast<const char*>(items.data()), items.size() * sizeof(T));
  }
};

}  // namespace preserve::apply
