// SPDX-License-Identifier: Apache-2.0
#include "tests/apply/library/cuda/program.h"

#include <cstring>
#include <map>
#include <stdexcept>

#include "apply/library/cuda/prefetch_args.h"
#include "tests/replay/cuda/emulated_cuda.h"
#include "tests/replay/cuda/emulated_gpu.h"

extern "C" {
void preserve_bulk_l2(preserve::apply::PrefetchArgs);
void preserve_bulk_l2_kept(preserve::apply::PrefetchArgs);
void preserve_prefetch_l2(preserve::apply::PrefetchArgs);
void preserve_prefetch_l2_kept(preserve::apply::PrefetchArgs);
void preserve_load(preserve::apply::PrefetchArgs);
void preserve_load_kept(preserve::apply::PrefetchArgs);
}

namespace preserve::test {

bool runs_prefetches = true;

void ok(CUresult result) {
  if (result != CUDA_SUCCESS) throw std::runtime_error("the emulated driver refused");
}

namespace {

uint64_t mix(uint64_t state, uint64_t value) {
  return (state ^ value) * 0x9e3779b97f4a7c15 + (state >> 29);
}

// What one kernel of a program computes: parameters are where its result goes, its weights, how
// many results it reads, and where they are.
constexpr size_t kMostInputs = 8;
struct Inputs {
  uint64_t count = 0;
  const uint64_t* from[kMostInputs] = {};
};
void compute(uint64_t* out, const uint64_t* weights, const Inputs& inputs, uint64_t seed) {
  uint64_t state = seed;
  if (weights != nullptr) state = mix(state, *weights);
  for (uint64_t i = 0; i < inputs.count; ++i) state = mix(state, *inputs.from[i]);
  *out = state;
}

CUfunction kernel_named(const std::string& name) {
  static std::map<std::string, CUfunction> known;
  CUfunction& function = known[name];
  if (function != nullptr) return function;
  const uint64_t seed = std::hash<std::string>{}(name);
  function = emulated::make_function(name, {sizeof(uint64_t*), sizeof(uint64_t*), sizeof(Inputs)},
                                     [seed](void** arguments, unsigned, unsigned) {
                                       compute(*static_cast<uint64_t**>(arguments[0]),
                                               *static_cast<uint64_t**>(arguments[1]),
                                               *static_cast<Inputs*>(arguments[2]), seed);
                                     });
  return function;
}

CUfunction prefetch_named(const char* name, void (*kernel)(apply::PrefetchArgs)) {
  return emulated::make_function(name, {sizeof(apply::PrefetchArgs)},
                                 [kernel](void** arguments, unsigned blocks, unsigned threads) {
                                   if (!runs_prefetches) return;
                                   apply::PrefetchArgs args;
                                   std::memcpy(&args, arguments[0], sizeof(args));
                                   emulated::recording = true;
                                   emulated::launch(blocks, threads, [&] { kernel(args); });
                                 });
}

void make_prefetch_kernels() {
  static const bool made = [] {
    prefetch_named("preserve_bulk_l2", preserve_bulk_l2);
    prefetch_named("preserve_bulk_l2_kept", preserve_bulk_l2_kept);
    prefetch_named("preserve_prefetch_l2", preserve_prefetch_l2);
    prefetch_named("preserve_prefetch_l2_kept", preserve_prefetch_l2_kept);
    prefetch_named("preserve_load", preserve_load);
    prefetch_named("preserve_load_kept", preserve_load_kept);
    return true;
  }();
  (void)made;
}

}  // namespace

apply::Driver emulated_driver() {
  make_prefetch_kernels();
  apply::Driver driver;
#define PRESERVE_EMULATED(member, function, symbol) driver.member = ::function;
  PRESERVE_DRIVER_FUNCTIONS(PRESERVE_EMULATED)
#undef PRESERVE_EMULATED
  return driver;
}

const apply::Tensors& no_names() {
  static const apply::Tensors none;
  return none;
}

apply::PrefetchKernel emulated_prefetch() {
  static DeviceBlock word(16);
  make_prefetch_kernels();
  apply::PrefetchKernel kernel;
  ok(cuModuleGetFunction(&kernel.function, nullptr, "preserve_bulk_l2"));
  kernel.applied = word.address();
  const apply::PrefetchSwitch on{1, 0};
  std::memcpy(word.memory, &on, sizeof(on));
  kernel.has_start_edges = true;
  return kernel;
}

Step decode_step(size_t layers) {
  Step step;
  for (size_t i = 0; i < 3 * layers; ++i) {
    const char* kernels[] = {"_ZN4vllm4normIfEEvPT_", "gemm", "cross_device_reduce"};
    Step::Node node{i == 0 ? "embedding" : kernels[i % 3]};
    if (i > 0) node.after = {i - 1};
    step.nodes.push_back(node);
  }
  return step;
}

Program::Program(const Step& step, size_t weight_bytes)
    : weight_bytes_(weight_bytes),
      results_(step.nodes.size() * sizeof(uint64_t)),
      weights_(step.nodes.size() * weight_bytes + 16),
      count_(step.nodes.size()) {
  ok(cuGraphCreate(&graph_, 0));
  auto* results = static_cast<uint64_t*>(results_.memory);
  for (size_t i = 0; i < count_; ++i) {
    const Step::Node& node = step.nodes[i];
    CUgraphNodeParams params{};
    params.type = node.kernel.empty() ? CU_GRAPH_NODE_TYPE_EMPTY : CU_GRAPH_NODE_TYPE_KERNEL;
    uint64_t* out = results + i;
    auto* weights = weight_bytes == 0 ? nullptr : reinterpret_cast<uint64_t*>(weight(i));
    if (weights != nullptr) *weights = i;
    Inputs inputs;
    std::vector<CUgraphNode> after;
    std::vector<CUgraphEdgeData> edges;
    for (const size_t before : node.after) {
      CUgraphEdgeData edge{};
      if (node.programmatic && after.empty() && !node.kernel.empty() &&
          !step.nodes[before].kernel.empty()) {
        edge.from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC;
        edge.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
      } else if (!step.nodes[before].kernel.empty() && inputs.count < kMostInputs) {
        inputs.from[inputs.count++] = results + before;
      }
      after.push_back(nodes_[before]);
      edges.push_back(edge);
    }
    void* arguments[] = {&out, &weights, &inputs};
    if (!node.kernel.empty()) {
      params.kernel.func = kernel_named(node.kernel);
      params.kernel.gridDimX = params.kernel.blockDimX = 1;
      params.kernel.kernelParams = arguments;
    }
    nodes_.emplace_back();
    ok(cuGraphAddNode(&nodes_.back(), graph_, after.data(), edges.data(), after.size(), &params));
  }
}

std::vector<uint64_t> Program::left() {
  const auto* results = static_cast<const uint64_t*>(results_.memory);
  std::vector<uint64_t> left(results, results + count_);
  std::memset(results_.memory, 0, results_.bytes);
  return left;
}

std::vector<uint64_t> Program::result_of(CUgraphExec executable) {
  left();
  ok(cuGraphLaunch(executable, nullptr));
  emulated::drain();
  return left();
}

std::vector<uint64_t> Program::result() {
  CUgraphExec executable = nullptr;
  ok(cuGraphInstantiateWithFlags(&executable, graph_, 0));
  std::vector<uint64_t> result = result_of(executable);
  ok(cuGraphExecDestroy(executable));
  return result;
}

Plan::Plan(const Step& step, const PlanShape& shape, const std::string& folder) {
  content.header.folder = content.add_text(folder);
  content.header.blocks = 2;
  for (const Step::Node& node : step.nodes) {
    if (!node.kernel.empty()) content.kernels.push_back(apply::kernel_name(node.kernel));
  }
  const size_t kernels = content.kernels.size();
  for (size_t i = shape.first; i < kernels; i += shape.every) {
    content.windows.push_back({static_cast<uint32_t>(i),
                               static_cast<uint32_t>(content.slices.size()),
                               static_cast<uint32_t>(shape.slices), 0});
    for (size_t s = 0; s < shape.slices; ++s) {
      content.slices.push_back({static_cast<uint32_t>((i + shape.ahead) % kernels), 8, 0, 0,
                                s * shape.slice_bytes, shape.slice_bytes});
    }
  }
  encode();
}

void Plan::encode() {
  const std::string text = content.encoded();
  file_.resize(text.size());
  std::memcpy(file_.data(), text.data(), text.size());
  if (const char* error = view_.open(file_)) throw std::runtime_error(error);
}

}  // namespace preserve::test
