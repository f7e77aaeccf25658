// SPDX-License-Identifier: Apache-2.0
// Plan files while they are put together, outside the program that will read them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apply/graph_plan_file.h"
#include "apply/plan_file.h"

namespace preserve::apply {

// What both kinds of plan have.
template <typename Header, typename Window, typename Slice>
struct PlanParts {
  PlanParts() {
    header.deadline_pairs = kDefaultDeadlinePairs;
    header.control_every = kDefaultControlEvery;
    header.sample_capacity = kDefaultSampleCapacity;
  }

  Header header{};
  std::vector<Window> windows{};
  std::vector<Slice> slices{};
  std::vector<PlanTensor> tensors{};
  std::string text{};

  PlanText add_text(std::string_view added) {
    const PlanText place{static_cast<uint32_t>(text.size()), static_cast<uint32_t>(added.size())};
    text += added;
    return place;
  }
  uint32_t add_tensor(std::string_view name, TensorKind kind = TensorKind::region) {
    tensors.push_back({kind, 0, 0, add_text(name)});
    return static_cast<uint32_t>(tensors.size() - 1);
  }

 protected:
  template <typename Step>
  std::string file(const char (&magic)[8], uint32_t version, uint32_t Header::*count,
                   const std::vector<Step>& steps) const {
    Header head = header;
    std::memcpy(head.magic, magic, sizeof(magic));
    head.version = version;
    head.header_bytes = sizeof(head);
    head.*count = static_cast<uint32_t>(steps.size());
    head.windows = static_cast<uint32_t>(windows.size());
    head.slices = static_cast<uint32_t>(slices.size());
    head.tensors = static_cast<uint32_t>(tensors.size());
    head.text_bytes = static_cast<uint32_t>(text.size());
    std::string file(sizeof(head), '\0');
    const auto append = [&](const auto& array) {
      file.append(reinterpret_cast<const char*>(array.data()), array.size() * sizeof(array[0]));
    };
    append(steps);
    append(windows);
    append(slices);
    append(tensors);
    file += text;
    head.file_bytes = file.size();
    std::memcpy(file.data(), &head, sizeof(head));
    return file;
  }
};

struct PlanContent : PlanParts<PlanHeader, PlanWindow, PlanSlice> {
  PlanContent() {
    header.turn_ns = kDefaultTurnNs;
    header.idle_turns = kDefaultIdleTurns;
  }

  std::vector<PlanCollective> collectives{};

  // The file. Whether it is a good one, PlanView says.
  std::string encoded() const {
    return file(kPlanMagic, kPlanVersion, &PlanHeader::collectives, collectives);
  }
};

struct GraphPlanContent : PlanParts<GraphPlanHeader, GraphWindow, GraphSlice> {
  GraphPlanContent() {
    header.blocks = kDefaultBlocks;
    header.chunk_bytes = 4096;
    header.ranks = 1;
  }

  std::vector<uint64_t> kernels{};

  // The file. Whether it is a good one, GraphPlanView says.
  std::string encoded() const {
    return file(kGraphPlanMagic, kGraphPlanVersion, &GraphPlanHeader::kernels, kernels);
  }
};

}  // namespace preserve::apply
