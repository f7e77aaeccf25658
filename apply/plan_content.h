// SPDX-License-Identifier: Apache-2.0
// Plan files while they are put together, outside the program that will read them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apply/graph_plan_file.h"
#include "apply/plan_file.h"

namespace preserve::apply {

// `header` with what every plan file says of itself, then the arrays and the text.
template <typename Header, typename... Items>
std::string plan_file(Header header, const char (&magic)[8], uint32_t version,
                      const std::string& text, const std::vector<Items>&... arrays) {
  std::memcpy(header.magic, magic, sizeof(magic));
  header.version = version;
  header.header_bytes = sizeof(header);
  header.text_bytes = static_cast<uint32_t>(text.size());
  std::string file(sizeof(header), '\0');
  (file.append(reinterpret_cast<const char*>(arrays.data()), arrays.size() * sizeof(Items)), ...);
  file += text;
  header.file_bytes = file.size();
  std::memcpy(file.data(), &header, sizeof(header));
  return file;
}

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
    head.collectives = static_cast<uint32_t>(collectives.size());
    head.windows = static_cast<uint32_t>(windows.size());
    head.slices = static_cast<uint32_t>(slices.size());
    head.tensors = static_cast<uint32_t>(tensors.size());
    return plan_file(head, kPlanMagic, kPlanVersion, text, collectives, windows, slices, tensors);
  }
};

struct GraphPlanContent {
  GraphPlanHeader header{};
  std::vector<uint64_t> kernels{};
  std::vector<GraphWindow> windows{};
  std::vector<GraphSlice> slices{};
  std::vector<PlanTensor> tensors{};
  std::string text{};
  std::string folder{};

  GraphPlanContent() {
    header.blocks = kDefaultBlocks;
    header.chunk_bytes = 4096;
    header.deadline_pairs = kDefaultDeadlinePairs;
    header.control_every = kDefaultControlEvery;
    header.sample_capacity = kDefaultSampleCapacity;
    header.ranks = 1;
  }
  uint32_t add_tensor(std::string_view name) {
    tensors.push_back({TensorKind::region,
                       0,
                       0,
                       {static_cast<uint32_t>(text.size()), static_cast<uint32_t>(name.size())}});
    text += name;
    return static_cast<uint32_t>(tensors.size() - 1);
  }
  // The file. Whether it is a good one, GraphPlanView says.
  std::string encoded() const {
    GraphPlanHeader head = header;
    head.kernels = static_cast<uint32_t>(kernels.size());
    head.windows = static_cast<uint32_t>(windows.size());
    head.slices = static_cast<uint32_t>(slices.size());
    head.tensors = static_cast<uint32_t>(tensors.size());
    head.folder = {static_cast<uint32_t>(text.size()), static_cast<uint32_t>(folder.size())};
    return plan_file(head, kGraphPlanMagic, kGraphPlanVersion, text + folder, kernels, windows,
                     slices, tensors);
  }
};

}  // namespace preserve::apply
