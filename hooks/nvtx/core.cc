// SPDX-License-Identifier: Apache-2.0
// NVTX core as an injection library sees it: every binary that embeds the headers calls
// InitializeInjectionNvtx2 once and takes our functions into its own table
// (nvtx3/nvtxDetail/nvtxTypes.h). Handles are numbers in pointer's clothing, valid in all binaries.
#include <nvtx3/nvToolsExt.h>
#define NVTX_INIT_TYPES_ONLY
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "hooks/nvtx/nvtx.h"

namespace preserve::hooks {
namespace {

using nvtx::Definition;

// Functions that end in _a take char, those in _w wchar_t; those of no domain are of domain 0.
template <typename Char>
auto text_of(const Char* text) {
  if constexpr (sizeof(Char) == 1) {
    return Bounded(text);
  } else {
    return Utf8(text);
  }
}

// --- push and pop: the hot path ---

template <typename Char>
int NVTX_API push(const Char* message) {
  return listener::push(0, text_of(message).view(), nullptr);
}
int NVTX_API pop_default() {
  return listener::pop(0, nullptr);
}

int NVTX_API domain_push_ex(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
  const Attributes read(attributes);
  return listener::push(domain_number(domain), read.text(), read.event());
}
int NVTX_API push_ex(const nvtxEventAttributes_t* attributes) {
  return domain_push_ex(nullptr, attributes);
}
int NVTX_API domain_pop(nvtxDomainHandle_t domain) {
  return listener::pop(domain_number(domain), nullptr);
}

// --- marks and start/end ranges ---

template <typename Char>
void NVTX_API mark(const Char* message) {
  listener::mark(0, text_of(message).view(), nullptr);
}
void NVTX_API domain_mark_ex(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
  const Attributes read(attributes);
  listener::mark(domain_number(domain), read.text(), read.event());
}
void NVTX_API mark_ex(const nvtxEventAttributes_t* attributes) {
  domain_mark_ex(nullptr, attributes);
}

template <typename Char>
nvtxRangeId_t NVTX_API range_start(const Char* message) {
  return listener::start(0, next_id(), text_of(message).view(), nullptr);
}
nvtxRangeId_t NVTX_API domain_range_start_ex(nvtxDomainHandle_t domain,
                                             const nvtxEventAttributes_t* attributes) {
  const Attributes read(attributes);
  return listener::start(domain_number(domain), next_id(), read.text(), read.event());
}
nvtxRangeId_t NVTX_API range_start_ex(const nvtxEventAttributes_t* attributes) {
  return domain_range_start_ex(nullptr, attributes);
}
void NVTX_API domain_range_end(nvtxDomainHandle_t domain, nvtxRangeId_t id) {
  listener::end(domain_number(domain), id, nullptr);
}
void NVTX_API range_end_default(nvtxRangeId_t id) {
  domain_range_end(nullptr, id);
}

// --- names ---

// A domain's number is 16 bits in a record; a program with more shares the last one.
uint16_t new_domain_number() {
  static std::atomic<uint32_t> count{0};
  const uint32_t number = count.fetch_add(1, std::memory_order_relaxed) + 1;
  return static_cast<uint16_t>(number < UINT16_MAX ? number : UINT16_MAX);
}
template <typename Char>
nvtxDomainHandle_t NVTX_API domain_create(const Char* name) {
  const uint16_t number = new_domain_number();
  listener::define(Definition::domain, number, {number, 0, 0, 0}, text_of(name).view());
  return reinterpret_cast<nvtxDomainHandle_t>(uintptr_t{number});
}
void NVTX_API domain_destroy(nvtxDomainHandle_t) {}  // its ranges stay

template <typename Char>
nvtxStringHandle_t NVTX_API domain_register_string(nvtxDomainHandle_t domain, const Char* text) {
  // 32 bits in a record: id 0 says "no registered string", and a wrap takes 4 billion
  // registrations.
  const uint64_t id = next_id() & UINT32_MAX;
  listener::define(Definition::string, domain_number(domain), {id, 0, 0, 0}, text_of(text).view());
  return reinterpret_cast<nvtxStringHandle_t>(uintptr_t{id});
}

template <typename Char>
void NVTX_API domain_name_category(nvtxDomainHandle_t domain, uint32_t category, const Char* name) {
  listener::define(Definition::category, domain_number(domain), {category, 0, 0, 0},
                   text_of(name).view());
}
template <typename Char>
void NVTX_API name_category(uint32_t category, const Char* name) {
  domain_name_category(nullptr, category, name);
}

// Thread id 0 is taken as the caller, as programs pass it when they have no system thread id.
template <typename Char>
void NVTX_API name_thread(uint32_t thread, const Char* name) {
  const uint64_t id = thread != 0 ? thread : static_cast<uint64_t>(::syscall(SYS_gettid));
  listener::define(Definition::thread_name, 0, {id, 0, 0, 0}, text_of(name).view());
}

nvtxResourceHandle_t NVTX_API resource_create(nvtxDomainHandle_t domain,
                                              nvtxResourceAttributes_t* attributes) {
  const uint64_t id = next_id();
  if (attributes != nullptr) {
    const Message message(attributes->messageType, attributes->message);
    listener::define(Definition::resource, domain_number(domain),
                     {id, static_cast<uint64_t>(attributes->identifierType),
                      attributes->identifier.ullValue, message.string_id()},
                     message.text());
    // A thread may be named this way too.
    if (attributes->identifierType == NVTX_RESOURCE_TYPE_GENERIC_THREAD_NATIVE ||
        attributes->identifierType == NVTX_RESOURCE_TYPE_GENERIC_THREAD_POSIX) {
      listener::define(Definition::thread_name, 0,
                       {attributes->identifier.ullValue, message.string_id(), 0, 0},
                       message.text());
    }
  }
  return reinterpret_cast<nvtxResourceHandle_t>(uintptr_t{id});
}
void NVTX_API resource_destroy(nvtxResourceHandle_t) {}
void NVTX_API initialize(const void*) {}

// --- taking the slots ---

struct Slot {
  int id;
  NvtxFunctionPointer function;
};
template <typename F>
NvtxFunctionPointer any(F* function) {
  return reinterpret_cast<NvtxFunctionPointer>(function);
}

bool take_slots(const NvtxExportTableCallbacks& callbacks, NvtxCallbackModule module,
                const Slot* slots, size_t count) {
  NvtxFunctionTable table = nullptr;
  unsigned int size = 0;
  if (callbacks.GetModuleFunctionTable(module, &table, &size) == 0 || table == nullptr)
    return false;
  for (size_t i = 0; i < count; ++i) {
    if (static_cast<unsigned>(slots[i].id) < size && table[slots[i].id] != nullptr) {
      *table[slots[i].id] = slots[i].function;
    }
  }
  return true;
}

}  // namespace

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace preserve::hooks

// 0: there is no tool, so that every later call of the program is a no-op.
extern "C" __attribute__((visibility("default"))) int InitializeInjectionNvtx2(
    NvtxGetExportTableFunc_t get_export_table) {
  using namespace preserve::hooks;
  if (!preserve::listener::nvtx_wanted() || get_export_table == nullptr) return 0;
  const auto* callbacks =
      static_cast<const NvtxExportTableCallbacks*>(get_export_table(NVTX_ETID_CALLBACKS));
  if (callbacks == nullptr ||
      callbacks->struct_size < offsetof(NvtxExportTableCallbacks, GetModuleFunctionTable) +
                                   sizeof(callbacks->GetModuleFunctionTable)) {
    return 0;
  }
  const Slot core[] = {{NVTX_CBID_CORE_MarkEx, any(mark_ex)},
                       {NVTX_CBID_CORE_MarkA, any(mark<char>)},
                       {NVTX_CBID_CORE_MarkW, any(mark<wchar_t>)},
                       {NVTX_CBID_CORE_RangeStartEx, any(range_start_ex)},
                       {NVTX_CBID_CORE_RangeStartA, any(range_start<char>)},
                       {NVTX_CBID_CORE_RangeStartW, any(range_start<wchar_t>)},
                       {NVTX_CBID_CORE_RangeEnd, any(range_end_default)},
                       {NVTX_CBID_CORE_RangePushEx, any(push_ex)},
                       {NVTX_CBID_CORE_RangePushA, any(push<char>)},
                       {NVTX_CBID_CORE_RangePushW, any(push<wchar_t>)},
                       {NVTX_CBID_CORE_RangePop, any(pop_default)},
                       {NVTX_CBID_CORE_NameCategoryA, any(name_category<char>)},
                       {NVTX_CBID_CORE_NameCategoryW, any(name_category<wchar_t>)},
                       {NVTX_CBID_CORE_NameOsThreadA, any(name_thread<char>)},
                       {NVTX_CBID_CORE_NameOsThreadW, any(name_thread<wchar_t>)}};
  const Slot core2[] = {
      {NVTX_CBID_CORE2_DomainMarkEx, any(domain_mark_ex)},
      {NVTX_CBID_CORE2_DomainRangeStartEx, any(domain_range_start_ex)},
      {NVTX_CBID_CORE2_DomainRangeEnd, any(domain_range_end)},
      {NVTX_CBID_CORE2_DomainRangePushEx, any(domain_push_ex)},
      {NVTX_CBID_CORE2_DomainRangePop, any(domain_pop)},
      {NVTX_CBID_CORE2_DomainResourceCreate, any(resource_create)},
      {NVTX_CBID_CORE2_DomainResourceDestroy, any(resource_destroy)},
      {NVTX_CBID_CORE2_DomainNameCategoryA, any(domain_name_category<char>)},
      {NVTX_CBID_CORE2_DomainNameCategoryW, any(domain_name_category<wchar_t>)},
      {NVTX_CBID_CORE2_DomainRegisterStringA, any(domain_register_string<char>)},
      {NVTX_CBID_CORE2_DomainRegisterStringW, any(domain_register_string<wchar_t>)},
      {NVTX_CBID_CORE2_DomainCreateA, any(domain_create<char>)},
      {NVTX_CBID_CORE2_DomainCreateW, any(domain_create<wchar_t>)},
      {NVTX_CBID_CORE2_DomainDestroy, any(domain_destroy)},
      {NVTX_CBID_CORE2_Initialize, any(initialize)}};
  const bool done = take_slots(*callbacks, NVTX_CB_MODULE_CORE, core, sizeof(core) / sizeof(*core));
  take_slots(*callbacks, NVTX_CB_MODULE_CORE2, core2, sizeof(core2) / sizeof(*core2));
  return done ? 1 : 0;
}
