// SPDX-License-Identifier: Apache-2.0
// A program that uses NVTX in the way its first argument says. Knows nothing of Preserve.
#include <dlfcn.h>
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtMem.h>
#include <nvtx3/nvToolsExtPayload.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <latch>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/profiler/programs/until_written.h"

namespace {

using preserve::test::until_written;

void busy_us(int64_t us) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(us);
  while (std::chrono::steady_clock::now() < end) {
  }
}

nvtxEventAttributes_t event_of(int32_t type) {
  nvtxEventAttributes_t event{};
  event.version = NVTX_VERSION;
  event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  event.messageType = type;
  return event;
}

void work(const char* name, int64_t us = 50) {
  nvtxRangePushA(name);
  busy_us(us);
  nvtxRangePop();
}

// None ends before all have recorded: no ring is handed on.
int threads(char**) {
  std::vector<std::thread> workers;
  workers.reserve(4);
  std::latch recorded(4);
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([i, &recorded] {
      nvtxNameOsThreadA(static_cast<uint32_t>(gettid()), ("worker " + std::to_string(i)).c_str());
      for (int k = 0; k < 100; ++k) work("thread work", 5);
      recorded.arrive_and_wait();
    });
  }
  for (std::thread& worker : workers) worker.join();
  return 0;
}

// One after another: the ring of a thread that ended serves the next. Each ends after the writer
// has been through all rings since the one before it ended: what is written second was recorded
// after the first round, and what is third after the second was over.
int successive_threads(char**) {
  for (int i = 0; i < 8; ++i) {
    std::thread([i] {
      work("successive");
      for (const char* round : {"first", "second", "third"}) {
        const std::string name = std::string(round) + " of " + std::to_string(i);
        nvtxMarkA(name.c_str());
        until_written(name);
      }
    }).join();
  }
  return 0;
}

int forks(char**) {
  nvtxStringHandle_t name = nvtxDomainRegisterStringA(nullptr, "registered before fork");
  work("parent");
  const pid_t child = fork();
  if (child == 0) {
    work("child");
    nvtxEventAttributes_t event = event_of(NVTX_MESSAGE_TYPE_REGISTERED);
    event.message.registered = name;
    nvtxRangePushEx(&event);
    nvtxRangePop();
    exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  work("parent after");
  return WEXITSTATUS(status);
}

int executes(char** rest) {
  work("before exec");
  const pid_t child = fork();
  if (child == 0) {
    execl("/proc/self/exe", rest[-2], "range", "after exec", nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

int loads(char** rest) {
  work("in program");
  void* plugin = dlopen(rest[0], RTLD_NOW);
  if (plugin == nullptr) return 3;
  reinterpret_cast<void (*)()>(dlsym(plugin, "plugin_work"))();
  return 0;
}

int range(char** rest) {
  work(rest[0]);
  return 0;
}

// Records, waits until that is written, then ends without ceremony.
int ends_by(char** rest) {
  nvtxRangePushA("still open");
  for (int i = 0; i < 50; ++i) work("flushed", 20);
  nvtxMarkA("all of it");
  until_written("all of it");
  if (std::strcmp(rest[0], "segv") == 0) raise(SIGSEGV);
  if (std::strcmp(rest[0], "kill") == 0) raise(SIGKILL);
  _exit(7);
}

int exits(char** rest) {
  work("exits");
  std::printf("to stdout\n");
  std::fprintf(stderr, "to stderr\n");
  return std::atoi(rest[0]);
}

int copies_stdin(char**) {
  work("copies");
  int c = 0;
  while ((c = std::getchar()) != EOF) std::putchar(c);
  return 0;
}

int waits(char**) {
  work("before the signal");
  nvtxMarkA("all of it");
  until_written("all of it");
  std::printf("ready\n");
  std::fflush(stdout);
  while (true) pause();
}

int floods(char** rest) {
  const int pairs = std::atoi(rest[0]);
  nvtxRangePushA("flood");
  for (int i = 0; i < pairs; ++i) {
    nvtxRangePushA("outer range of the flood");
    nvtxRangePushA("inner");
    nvtxRangePop();
    nvtxRangePop();
  }
  nvtxRangePop();
  work("after the flood");
  return 0;
}

// A short-lived thread, then a loop of every kind of event, 5 records in each turn, no faster than
// they are written.
int hot(char** rest) {
  nvtxDomainHandle_t domain = nvtxDomainCreateA("hot");
  nvtxEventAttributes_t event = event_of(NVTX_MESSAGE_TYPE_REGISTERED);
  event.message.registered = nvtxDomainRegisterStringA(domain, "registered");
  std::thread([] { nvtxMarkA("early"); }).join();
  for (int i = std::atoi(rest[0]); i > 0; --i) {
    nvtxDomainRangePushEx(domain, &event);
    nvtxMarkA("mark");
    nvtxRangeEnd(nvtxRangeStartA("started"));
    nvtxDomainRangePop(domain);
    if (i % 1000 == 0) {
      const std::string turn = "turn " + std::to_string(i) + ".";
      nvtxDomainRegisterStringA(domain, turn.c_str());  // never sampled
      until_written(turn);
    }
  }
  work("after");
  return 0;
}

int core(char**) {
  nvtxDomainHandle_t domain = nvtxDomainCreateA("my domain");
  nvtxEventAttributes_t event = event_of(NVTX_MESSAGE_TYPE_ASCII);
  event.message.ascii = "with payload";
  event.payloadType = NVTX_PAYLOAD_TYPE_INT64;
  event.payload.llValue = -42;
  nvtxDomainRangePushEx(domain, &event);
  nvtxRangePushW(L"wide \u00e9\u20ac");
  nvtxMarkA("a mark");
  nvtxRangePop();
  nvtxDomainRangePop(domain);
  event.payloadType = NVTX_PAYLOAD_UNKNOWN;
  event.messageType = NVTX_MESSAGE_TYPE_UNICODE;
  event.message.unicode = L"wide mark";
  nvtxDomainMarkEx(domain, &event);
  const nvtxRangeId_t id = nvtxRangeStartA("across threads");
  std::thread([id] { nvtxRangeEnd(id); }).join();
  nvtxRangeStartA("never ended");
  nvtxRangePop();  // nothing is open
  nvtxDomainDestroy(domain);
  return 0;
}

int memory(char**) {
  static char weights[4096], cache[8192];
  nvtxMemVirtualRangeDesc_t ranges[] = {{sizeof(weights), weights}, {1024, cache}};
  nvtxMemRegionHandle_t handles[2] = {};
  nvtxMemRegionsRegisterBatch_t batch{};
  batch.extCompatID = NVTX_EXT_COMPATID_MEM;
  batch.structSize = sizeof(batch);
  batch.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
  batch.heap = NVTX_MEM_HEAP_HANDLE_PROCESS_WIDE;
  batch.regionCount = 2;
  batch.regionDescElementSize = sizeof(ranges[0]);
  batch.regionDescElements = ranges;
  batch.regionHandleElementsOut = handles;
  nvtxMemRegionsRegister(nullptr, &batch);
  nvtxMemRegionNameDesc_t names[2] = {};
  const char* texts[] = {"layers.0.mlp.up.weight", "layers.0.attn.k_cache"};
  for (int i = 0; i < 2; ++i) {
    names[i].regionRefType =
        i == 0 ? NVTX_MEM_REGION_REF_TYPE_HANDLE : NVTX_MEM_REGION_REF_TYPE_POINTER;
    if (i == 0) names[i].region.handle = handles[i];
    if (i == 1) names[i].region.pointer = ranges[i].ptr;
    names[i].nameType = NVTX_MESSAGE_TYPE_ASCII;
    names[i].name.ascii = texts[i];
  }
  nvtxMemRegionsNameBatch_t naming{};
  naming.extCompatID = NVTX_EXT_COMPATID_MEM;
  naming.structSize = sizeof(naming);
  naming.regionCount = 2;
  naming.regionElementSize = sizeof(names[0]);
  naming.regionElements = names;
  nvtxMemRegionsName(nullptr, &naming);
  for (int step = 0; step < 3; ++step) {
    ranges[1].size = 1024 + 256 * static_cast<size_t>(step);
    nvtxMemRegionsResizeBatch_t resize{};
    resize.extCompatID = NVTX_EXT_COMPATID_MEM;
    resize.structSize = sizeof(resize);
    resize.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    resize.regionDescCount = 1;
    resize.regionDescElementSize = sizeof(ranges[1]);
    resize.regionDescElements = &ranges[1];
    nvtxMemRegionsResize(nullptr, &resize);
    nvtxRangePushA("decode_step");
    work("layers.0.mlp.up");
    nvtxRangePushA("layers.0.attn");
    work("scores");
    nvtxRangePop();
    nvtxRangePop();
  }
  return 0;
}

// A schema with stated offsets, as NCCL registers them, on push and on pop.
int payload(char**) {
  struct Message {
    uint64_t communicator;
    uint64_t bytes;
    int32_t operation;
  } const message{0x1234, 2048, 1};
  nvtxDomainHandle_t domain = nvtxDomainCreateA("NCCL");
  const nvtxPayloadEnum_t values[] = {{"Sum", 0, 0}, {"Max", 1, 0}};
  nvtxPayloadEnumAttr_t enumeration{};
  enumeration.fieldMask = NVTX_PAYLOAD_ENUM_ATTR_FIELD_ENTRIES |
                          NVTX_PAYLOAD_ENUM_ATTR_FIELD_NUM_ENTRIES |
                          NVTX_PAYLOAD_ENUM_ATTR_FIELD_SIZE;
  enumeration.entries = values;
  enumeration.numEntries = 2;
  enumeration.sizeOfEnum = 4;
  const uint64_t operation = nvtxPayloadEnumRegister(domain, &enumeration);
  nvtxPayloadSchemaEntry_t entries[3] = {};
  entries[0].type = NVTX_PAYLOAD_ENTRY_TYPE_UINT64;
  entries[0].name = "NCCL communicator ID";
  entries[1].type = NVTX_PAYLOAD_ENTRY_TYPE_SIZE;
  entries[1].name = "Message size [bytes]";
  entries[1].offset = 8;
  entries[2].type = operation;
  entries[2].name = "Reduction operation";
  entries[2].offset = 16;
  nvtxPayloadSchemaAttr_t schema{};
  schema.fieldMask = NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_NAME | NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_ENTRIES |
                     NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_NUM_ENTRIES |
                     NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_STATIC_SIZE |
                     NVTX_PAYLOAD_SCHEMA_ATTR_FIELD_SCHEMA_ID;
  schema.name = "AllReduce";
  schema.entries = entries;
  schema.numEntries = 3;
  schema.payloadStaticSize = sizeof(message);
  schema.schemaId = 16777221;
  const uint64_t id = nvtxPayloadSchemaRegister(domain, &schema);
  const nvtxPayloadData_t data{id, sizeof(message), &message};
  nvtxEventAttributes_t event = event_of(NVTX_MESSAGE_TYPE_REGISTERED);
  event.message.registered = nvtxDomainRegisterStringA(domain, "ncclAllReduce");
  event.payloadType = NVTX_PAYLOAD_TYPE_EXT;
  event.reserved0 = 1;  // payloads
  event.payload.ullValue = NVTX_POINTER_AS_PAYLOAD_ULLVALUE(&data);
  nvtxDomainRangePushEx(domain, &event);
  nvtxRangePopPayload(domain, &data, 1);
  return 0;
}

int nothing(char**) {
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, int (*)(char**)> modes{
      {"threads", threads},  {"successive", successive_threads},
      {"fork", forks},       {"exec", executes},
      {"dlopen", loads},     {"range", range},
      {"ends", ends_by},     {"exit", exits},
      {"cat", copies_stdin}, {"wait", waits},
      {"flood", floods},     {"core", core},
      {"hot", hot},          {"memory", memory},
      {"payload", payload},  {"nothing", nothing}};
  const auto mode = modes.find(argc > 1 ? argv[1] : "");
  return mode == modes.end() ? 64 : mode->second(argv + 2);
}
