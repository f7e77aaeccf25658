// SPDX-License-Identifier: Apache-2.0
// The two NVTX extensions that matter here: payloads (typed data on events; NCCL describes its
// collectives this way) and memory (regions with names: how a program says where its weights and
// caches lie). Sources: nvtx3/nvToolsExtPayload.h, nvToolsExtMem.h, nvtxDetail/nvtxExtInit.h.
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtMem.h>
#include <nvtx3/nvToolsExtPayload.h>

#include "hooks/nvtx/nvtx.h"

namespace preserve::hooks {
namespace {

using nvtx::Definition;

// ---------------------------------------------------------------- payloads

// The number that the program chose, where it did.
template <typename Attributes>
uint64_t id_of(const Attributes& attributes, uint64_t has_id) {
  return (attributes.fieldMask & has_id) != 0 && attributes.schemaId != 0
             ? attributes.schemaId
             : NVTX_PAYLOAD_SCHEMA_ID_DYNAMIC_START + next_id();
}

uint64_t schema_register(nvtxDomainHandle_t domain, const nvtxPayloadSchemaAttr_t* attributes) {
  if (attributes == nullptr) return 0;
  const uint64_t id = id_of(*attributes, NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_SCHEMA_ID);
  listener::define_schema(domain_number(domain), id, *attributes);
  return id;
}

uint64_t enum_register(nvtxDomainHandle_t domain, const nvtxPayloadEnumAttr_t* attributes) {
  if (attributes == nullptr) return 0;
  const uint64_t id = id_of(*attributes, NVTX_PAYLOAD_ENUM_ATTR_FIELD_SCHEMA_ID);
  listener::define_enumeration(domain_number(domain), id, *attributes);
  return id;
}

nvtx::Event payload_event(const nvtxPayloadData_t* payloads, size_t count) {
  nvtx::Event event;
  event.payload_type = static_cast<uint32_t>(NVTX_PAYLOAD_TYPE_EXT);
  event.payloads = payloads;
  event.payload_count = count;
  return event;
}

void mark_payload(nvtxDomainHandle_t domain, const nvtxPayloadData_t* payloads, size_t count) {
  const nvtx::Event event = payload_event(payloads, count);
  listener::mark(domain_number(domain), {}, &event);
}
int push_payload(nvtxDomainHandle_t domain, const nvtxPayloadData_t* payloads, size_t count) {
  const nvtx::Event event = payload_event(payloads, count);
  return listener::push(domain_number(domain), {}, &event);
}
int pop_payload(nvtxDomainHandle_t domain, const nvtxPayloadData_t* payloads, size_t count) {
  const nvtx::Event event = payload_event(payloads, count);
  return listener::pop(domain_number(domain), &event);
}
nvtxRangeId_t start_payload(nvtxDomainHandle_t domain, const nvtxPayloadData_t* payloads,
                            size_t count) {
  const nvtx::Event event = payload_event(payloads, count);
  return listener::start(domain_number(domain), next_id(), {}, &event);
}
void end_payload(nvtxDomainHandle_t domain, nvtxRangeId_t id, const nvtxPayloadData_t* payloads,
                 size_t count) {
  const nvtx::Event event = payload_event(payloads, count);
  listener::end(domain_number(domain), id, &event);
}
uint8_t domain_is_enabled(nvtxDomainHandle_t) {
  return 1;
}

// ---------------------------------------------------------------- memory

// Element i of an array whose element size the caller states, or nullptr when it is too small to be
// what it should be.
template <typename T>
const T* element(const void* array, size_t index, size_t element_size) {
  if (array == nullptr || element_size < sizeof(T)) return nullptr;
  return reinterpret_cast<const T*>(static_cast<const char*>(array) + index * element_size);
}

uint64_t address(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

template <typename Handle>
uint64_t handle_number(Handle handle) {
  return reinterpret_cast<uintptr_t>(handle);
}

nvtxMemHeapHandle_t heap_register(nvtxDomainHandle_t domain, const nvtxMemHeapDesc_t* desc) {
  if (desc == nullptr) return nullptr;
  const uint64_t id = next_id();
  uint64_t base = 0, bytes = 0;
  if (desc->type == NVTX_MEM_TYPE_VIRTUAL_ADDRESS) {
    if (const auto* range = element<nvtxMemVirtualRangeDesc_t>(desc->typeSpecificDesc, 0,
                                                               desc->typeSpecificDescSize)) {
      base = address(range->ptr);
      bytes = range->size;
    }
  }
  const Message message(static_cast<int32_t>(desc->messageType), desc->message);
  listener::define(Definition::heap, domain_number(domain), {id, message.string_id(), base, bytes},
                   message.text());
  return reinterpret_cast<nvtxMemHeapHandle_t>(uintptr_t{id});
}
void heap_unregister(nvtxDomainHandle_t domain, nvtxMemHeapHandle_t heap) {
  listener::define(Definition::heap_unregister, domain_number(domain),
                   {handle_number(heap), 0, 0, 0});
}
void heap_reset(nvtxDomainHandle_t domain, nvtxMemHeapHandle_t heap) {
  listener::define(Definition::heap_reset, domain_number(domain), {handle_number(heap), 0, 0, 0});
}

void regions_register(nvtxDomainHandle_t domain, const nvtxMemRegionsRegisterBatch_t* batch) {
  if (batch == nullptr || batch->regionType != NVTX_MEM_TYPE_VIRTUAL_ADDRESS) return;
  for (size_t i = 0; i < batch->regionCount; ++i) {
    const auto* range = element<nvtxMemVirtualRangeDesc_t>(batch->regionDescElements, i,
                                                           batch->regionDescElementSize);
    if (range == nullptr) return;
    const uint64_t id = next_id();
    listener::define(Definition::region, domain_number(domain),
                     {id, handle_number(batch->heap), address(range->ptr), range->size});
    if (batch->regionHandleElementsOut != nullptr) {
      batch->regionHandleElementsOut[i] = reinterpret_cast<nvtxMemRegionHandle_t>(uintptr_t{id});
    }
  }
}

// A resize names its region by address.
void regions_resize(nvtxDomainHandle_t domain, const nvtxMemRegionsResizeBatch_t* batch) {
  if (batch == nullptr || batch->regionType != NVTX_MEM_TYPE_VIRTUAL_ADDRESS) return;
  for (size_t i = 0; i < batch->regionDescCount; ++i) {
    const auto* range = element<nvtxMemVirtualRangeDesc_t>(batch->regionDescElements, i,
                                                           batch->regionDescElementSize);
    if (range == nullptr) return;
    listener::define(Definition::region_resize, domain_number(domain),
                     {0, 0, address(range->ptr), range->size});
  }
}

// A region by address or by handle: the other of the two stays 0.
nvtx::Numbers region_reference(uint32_t type, const nvtxMemRegionRef_t& reference) {
  if (type == NVTX_MEM_REGION_REF_TYPE_POINTER) return {0, 0, address(reference.pointer), 0};
  if (type == NVTX_MEM_REGION_REF_TYPE_HANDLE) return {handle_number(reference.handle), 0, 0, 0};
  return {};
}

void regions_unregister(nvtxDomainHandle_t domain, const nvtxMemRegionsUnregisterBatch_t* batch) {
  if (batch == nullptr) return;
  for (size_t i = 0; i < batch->refCount; ++i) {
    const auto* reference =
        element<nvtxMemRegionRef_t>(batch->refElements, i, batch->refElementSize);
    if (reference == nullptr) return;
    listener::define(Definition::region_unregister, domain_number(domain),
                     region_reference(batch->refType, *reference));
  }
}

void regions_name(nvtxDomainHandle_t domain, const nvtxMemRegionsNameBatch_t* batch) {
  if (batch == nullptr) return;
  for (size_t i = 0; i < batch->regionCount; ++i) {
    const auto* desc =
        element<nvtxMemRegionNameDesc_t>(batch->regionElements, i, batch->regionElementSize);
    if (desc == nullptr) return;
    const Message message(static_cast<int32_t>(desc->nameType), desc->name);
    nvtx::Numbers body = region_reference(desc->regionRefType, desc->region);
    body.parent = message.string_id();
    listener::define(Definition::region_name, domain_number(domain), body, message.text());
  }
}

// ---------------------------------------------------------------- slots

template <typename F>
void take(const nvtxExtModuleSegment_t& segment, size_t id, F* function) {
  if (id < segment.slotCount) segment.functionSlots[id] = reinterpret_cast<intptr_t>(function);
}

}  // namespace
}  // namespace preserve::hooks

extern "C" __attribute__((visibility("default"))) int InitializeInjectionNvtxExtension(
    nvtxExtModuleInfo_t* module) {
  using namespace preserve::hooks;
  if (!preserve::listener::nvtx_wanted() || module == nullptr || module->segmentsCount == 0)
    return 0;
  const nvtxExtModuleSegment_t& segment = module->segments[0];
  if (module->moduleId == NVTX_EXT_PAYLOAD_MODULEID) {
    take(segment, NVTX3EXT_CBID_nvtxPayloadSchemaRegister, schema_register);
    take(segment, NVTX3EXT_CBID_nvtxPayloadEnumRegister, enum_register);
    take(segment, NVTX3EXT_CBID_nvtxMarkPayload, mark_payload);
    take(segment, NVTX3EXT_CBID_nvtxRangePushPayload, push_payload);
    take(segment, NVTX3EXT_CBID_nvtxRangePopPayload, pop_payload);
    take(segment, NVTX3EXT_CBID_nvtxRangeStartPayload, start_payload);
    take(segment, NVTX3EXT_CBID_nvtxRangeEndPayload, end_payload);
    take(segment, NVTX3EXT_CBID_nvtxDomainIsEnabled, domain_is_enabled);
    return 1;
  }
  if (module->moduleId == NVTX_EXT_MODULEID_MEM) {
    take(segment, NVTX3EXT_CBID_nvtxMemHeapRegister, heap_register);
    take(segment, NVTX3EXT_CBID_nvtxMemHeapUnregister, heap_unregister);
    take(segment, NVTX3EXT_CBID_nvtxMemHeapReset, heap_reset);
    take(segment, NVTX3EXT_CBID_nvtxMemRegionsRegister, regions_register);
    take(segment, NVTX3EXT_CBID_nvtxMemRegionsResize, regions_resize);
    take(segment, NVTX3EXT_CBID_nvtxMemRegionsUnregister, regions_unregister);
    take(segment, NVTX3EXT_CBID_nvtxMemRegionsName, regions_name);
    return 1;
  }
  return 0;  // a module we do not know stays off
}
