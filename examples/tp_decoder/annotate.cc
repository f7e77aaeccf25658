// SPDX-License-Identifier: Apache-2.0
#include "examples/tp_decoder/annotate.h"

#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtMem.h>

#include <utility>
#include <vector>

namespace tp_decoder {
namespace {

// A domain of its own keeps these ranges apart from those of libraries in the same process.
nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t handle = nvtxDomainCreateA("tp_decoder");
  return handle;
}

std::vector<nvtxMemVirtualRangeDesc_t> describe(std::span<const Region> regions) {
  std::vector<nvtxMemVirtualRangeDesc_t> described;
  described.reserve(regions.size());
  for (const Region& region : regions) described.push_back({region.bytes, region.base});
  return described;
}

}  // namespace

Module::Module(std::string name)
    : name_(std::move(name)), handle_(nvtxDomainRegisterStringA(domain(), name_.c_str())) {}

Scope::Scope(const Module& module) {
  nvtxEventAttributes_t event{};
  event.version = NVTX_VERSION;
  event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  event.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
  event.message.registered = module.handle_;
  nvtxDomainRangePushEx(domain(), &event);
}

Scope::~Scope() {
  nvtxDomainRangePop(domain());
}

nvtxMemHeap_v1* register_heap(const std::string& name, const void* base, size_t bytes) {
  const nvtxMemVirtualRangeDesc_t range{bytes, base};
  nvtxMemHeapDesc_t heap{};
  heap.extCompatID = NVTX_EXT_COMPATID_MEM;
  heap.structSize = sizeof heap;
  heap.usage = NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR;
  heap.type = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
  heap.typeSpecificDescSize = sizeof range;
  heap.typeSpecificDesc = &range;
  heap.messageType = NVTX_MESSAGE_TYPE_ASCII;
  heap.message.ascii = name.c_str();
  return nvtxMemHeapRegister(domain(), &heap);
}

void register_regions(nvtxMemHeap_v1* heap, std::span<const Region> regions) {
  const auto described = describe(regions);
  nvtxMemRegionsRegisterBatch_t batch{};
  batch.extCompatID = NVTX_EXT_COMPATID_MEM;
  batch.structSize = sizeof batch;
  batch.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
  batch.heap = heap;
  batch.regionCount = described.size();
  batch.regionDescElementSize = sizeof described[0];
  batch.regionDescElements = described.data();
  nvtxMemRegionsRegister(domain(), &batch);

  // Virtual memory needs no handles: the base address stands for the region.
  std::vector<nvtxMemRegionNameDesc_t> names(regions.size());
  for (size_t i = 0; i < regions.size(); ++i) {
    names[i].regionRefType = NVTX_MEM_REGION_REF_TYPE_POINTER;
    names[i].region.pointer = regions[i].base;
    names[i].nameType = NVTX_MESSAGE_TYPE_ASCII;
    names[i].name.ascii = regions[i].name.c_str();
  }
  nvtxMemRegionsNameBatch_t naming{};
  naming.extCompatID = NVTX_EXT_COMPATID_MEM;
  naming.structSize = sizeof naming;
  naming.regionCount = names.size();
  naming.regionElementSize = sizeof names[0];
  naming.regionElements = names.data();
  nvtxMemRegionsName(domain(), &naming);
}

void resize_regions(std::span<const Region> regions) {
  const auto described = describe(regions);
  nvtxMemRegionsResizeBatch_t batch{};
  batch.extCompatID = NVTX_EXT_COMPATID_MEM;
  batch.structSize = sizeof batch;
  batch.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
  batch.regionDescCount = described.size();
  batch.regionDescElementSize = sizeof described[0];
  batch.regionDescElements = described.data();
  nvtxMemRegionsResize(domain(), &batch);
}

}  // namespace tp_decoder
