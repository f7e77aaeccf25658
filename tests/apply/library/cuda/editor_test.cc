// SPDX-License-Identifier: Apache-2.0
#include "apply/library/cuda/editor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "tests/apply/library/cuda/program.h"
#include "tests/replay/cuda/emulated_gpu.h"

namespace preserve {
namespace {

using namespace apply;
using namespace test;

// A graph as the driver lists it.
struct Listed {
  std::vector<CUgraphNode> nodes;
  std::vector<std::tuple<CUgraphNode, CUgraphNode, int, int>> edges;  // and port, type
};
Listed list(CUgraph graph) {
  Listed listed;
  size_t nodes = 0, edges = 0;
  cuGraphGetNodes(graph, nullptr, &nodes);
  listed.nodes.resize(nodes);
  cuGraphGetNodes(graph, listed.nodes.data(), &nodes);
  cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges);
  std::vector<CUgraphNode> from(edges), to(edges);
  std::vector<CUgraphEdgeData> data(edges);
  cuGraphGetEdges(graph, from.data(), to.data(), data.data(), &edges);
  for (size_t i = 0; i < edges; ++i) {
    listed.edges.emplace_back(from[i], to[i], data[i].from_port, data[i].type);
  }
  return listed;
}
bool is_part(const Listed& part, const Listed& whole) {
  const std::multiset nodes(whole.nodes.begin(), whole.nodes.end());
  const std::multiset edges(whole.edges.begin(), whole.edges.end());
  return std::all_of(part.nodes.begin(), part.nodes.end(),
                     [&](CUgraphNode node) { return nodes.count(node) == 1; }) &&
         std::all_of(part.edges.begin(), part.edges.end(),
                     [&](const auto& edge) { return edges.count(edge) == 1; });
}

struct GraphEditor : public ::testing::Test {
  void SetUp() override {
    emulated::requests().clear();
    emulated::driver_calls = emulated::failing_call = 0;
  }
  void TearDown() override { emulated::failing_call = 0; }

  Refusal edit(const Plan& plan, CUgraph graph) {
    return Editor(driver, plan.view(), names).edit(graph, prefetch, added, error);
  }

  const Driver driver = test::emulated_driver();
  Tensors own_names;
  const Tensors& names = own_names;
  PrefetchKernel prefetch = test::emulated_prefetch();
  AddedNodes added;
  CUresult error = CUDA_SUCCESS;
};

TEST_F(GraphEditor, PrefetchesBesideCollectivesWhatTheNextKernelIsGiven) {
  const Step step = test::decode_step(4);
  Program program(step, 512);
  const std::vector<uint64_t> before = program.result();
  ASSERT_EQ(edit(Plan(step, {.slices = 1}), program.graph()), Refusal::none);
  ASSERT_EQ(added.nodes().size(), 4u);
  EXPECT_EQ(added.missing_bytes(), 0u);
  EXPECT_EQ(added.fetched_bytes(), 4u * 256);
  const Listed after = list(program.graph());
  EXPECT_THAT(after.edges, testing::Contains(std::tuple(program.node(2), added.nodes()[0], 2, 1)));
  EXPECT_EQ(added.nodes()[0]->priority, prefetch.priority);
  EXPECT_EQ(program.result(), before);
  uint64_t requested = 0;
  for (const emulated::Request& request : emulated::requests()) {
    requested += request.bytes;
    EXPECT_GE(request.address, program.weight(0));
  }
  EXPECT_EQ(requested, 4u * 256);
}

TEST_F(GraphEditor, FetchesNothingWhileTheSwitchIsOff) {
  const Step step = test::decode_step(3);
  Program program(step, 512);
  ASSERT_EQ(edit(Plan(step, {}), program.graph()), Refusal::none);
  cuMemsetD32(prefetch.applied, 0, 1);
  program.result();
  EXPECT_TRUE(emulated::requests().empty());
}

TEST_F(GraphEditor, EveryWayOfFetchingAsksForTheSameBytes) {
  const Step step = test::decode_step(2);
  for (const char* name : {"preserve_bulk_l2", "preserve_bulk_l2_kept", "preserve_prefetch_l2",
                           "preserve_prefetch_l2_kept", "preserve_load", "preserve_load_kept"}) {
    Program program(step, 4096);
    emulated::requests().clear();
    ASSERT_EQ(cuModuleGetFunction(&prefetch.function, nullptr, name), CUDA_SUCCESS);
    const Plan plan(step, {.slices = 1, .slice_bytes = 2048});
    ASSERT_EQ(edit(plan, program.graph()), Refusal::none);
    program.result();
    std::set<uint64_t> sectors;
    for (const emulated::Request& request : emulated::requests()) {
      EXPECT_EQ(request.kept, std::string_view(name).ends_with("_kept"));
      for (uint64_t at = 0; at < request.bytes; at += 32) sectors.insert(request.address + at);
    }
    EXPECT_EQ(sectors.size(), 2u * 2048 / 32) << name;
  }
}

TEST_F(GraphEditor, WaitsForWhatTheCollectiveWaitsForOnOlderDrivers) {
  emulated::driver_version = 12020;
  prefetch.has_start_edges = false;
  const Step step = test::decode_step(2);
  Program program(step, 512);
  const std::vector<uint64_t> before = program.result();
  ASSERT_EQ(edit(Plan(step, {}), program.graph()), Refusal::none);
  EXPECT_THAT(list(program.graph()).edges,
              testing::Contains(std::tuple(program.node(1), added.nodes()[0], 0, 0)));
  EXPECT_EQ(program.result(), before);
  emulated::driver_version = 13000;
}

TEST_F(GraphEditor, PartOfAStepThatGoesOnAtItsBeginning) {
  const Step step = test::decode_step(3);
  Plan plan(step, {});
  // The recording found another beginning of the same step.
  std::rotate(plan.content.kernels.begin(), plan.content.kernels.begin() + 4,
              plan.content.kernels.end());
  for (GraphSlice& slice : plan.content.slices) slice.consumer = (slice.consumer + 5) % 9;
  for (GraphWindow& window : plan.content.windows) window.kernel = (window.kernel + 5) % 9;
  std::sort(plan.content.windows.begin(), plan.content.windows.end(),
            [](const GraphWindow& a, const GraphWindow& b) { return a.kernel < b.kernel; });
  plan.encode();
  Program program(step, 512);
  ASSERT_EQ(edit(plan, program.graph()), Refusal::none);
  EXPECT_EQ(added.nodes().size(), 3u);
  EXPECT_EQ(added.missing_bytes(), 0u);
}

TEST_F(GraphEditor, OperandsThatAreNoLiveMemoryAreLeftOut) {
  const Step step = test::decode_step(2);
  Program program(step, 0);
  ASSERT_EQ(edit(Plan(step, {}), program.graph()), Refusal::none);
  EXPECT_EQ(added.fetched_bytes(), 0u);
  EXPECT_EQ(added.missing_bytes(), 2u * 2 * 256);
  Program small(step, 384);  // the last slice of the last kernel ends beyond all memory
  ASSERT_EQ(edit(Plan(step, {.ahead = 3}), small.graph()), Refusal::none);
  EXPECT_EQ(added.missing_bytes(), 256u);
}

// Memory that is mapped into a larger reservation, as PyTorch's expandable segments are.
TEST_F(GraphEditor, OnlyWhatIsMappedOfAReservationIsLive) {
  const Step step = test::decode_step(2);
  Program program(step, 384);  // the last slice of the last kernel ends beyond what is mapped
  const emulated::Allocation mapped = emulated::allocation_around(program.weight(0));
  emulated::reserved = {mapped.base - 4096, mapped.bytes + (1 << 20)};
  const Refusal refusal = edit(Plan(step, {.ahead = 3}), program.graph());
  emulated::reserved = {};
  ASSERT_EQ(refusal, Refusal::none);
  EXPECT_EQ(added.missing_bytes(), 256u);
  EXPECT_THAT(added.allocations(), testing::ElementsAre(mapped.base));
}

// NVTX regions, as far as they are registered now, in place of parameters.
TEST_F(GraphEditor, TensorsOfANameLieWhereTheProgramSaysTheyAre) {
  const Step step = test::decode_step(2);
  Program program(step, 0);
  Plan plan(step, {.slices = 1});
  plan.content.slices[0].argument = plan.content.slices[1].argument = kByName;
  plan.content.slices[0].tensor = plan.content.add_tensor("layers.0.weight");
  plan.content.slices[1].tensor = plan.content.add_tensor("layers.1.weight");
  plan.content.slices[0].offset_bytes = 64;
  plan.encode();
  ASSERT_TRUE(own_names.start(plan.view().tensors(), plan.view().text()));
  Editor editor(driver, plan.view(), names);
  ASSERT_EQ(editor.edit(program.graph(), prefetch, added, error), Refusal::none);
  EXPECT_EQ(added.missing_bytes(), 2u * 256);  // nobody has named anything yet
  const test::DeviceBlock block(320), other(4096);
  own_names.add_region(1, 9, block.address(), 320);
  own_names.name_region(1, 0, 0, "layers.0.weight");
  own_names.add_region(2, 9, other.address(), 100);  // smaller than planned
  own_names.name_region(2, 0, 0, "layers.1.weight");
  ASSERT_EQ(editor.refresh(added), CUDA_SUCCESS);
  EXPECT_EQ(added.missing_bytes(), 256u);
  EXPECT_THAT(added.allocations(), testing::ElementsAre(block.address()));
  program.result();
  ASSERT_FALSE(emulated::requests().empty());
  EXPECT_EQ(emulated::requests().front().address, block.address() + 64);
  own_names.remove_region(1, 0);
  own_names.resize_region(other.address(), 512);
  ASSERT_EQ(editor.refresh(added), CUDA_SUCCESS);
  EXPECT_THAT(added.allocations(), testing::ElementsAre(other.address()));
  // A name for what is no memory of the GPU, or of another one.
  own_names.resize_region(other.address(), 8192);
  plan.content.slices[1].length_bytes = 8192;
  plan.encode();
  const test::Program unknown(step, 0);
  ASSERT_EQ(editor.edit(unknown.graph(), prefetch, added, error), Refusal::none);
  EXPECT_EQ(added.missing_bytes(), 256u + 8192);
  emulated::memory_device = 1;
  ASSERT_EQ(editor.refresh(added), CUDA_SUCCESS);
  EXPECT_EQ(added.fetched_bytes(), 0u);
  emulated::memory_device = 0;
}

// The program may free between two graphs what only the second one reads.
TEST_F(GraphEditor, WhatAnotherGraphReadsIsNotFetchedThoughItHasAName) {
  const Step step = test::decode_step(2);
  Step half;
  half.nodes.assign(step.nodes.begin(), step.nodes.begin() + 3);
  Program program(half, 512);
  Plan plan(step, {.slices = 1});
  plan.content.slices[0].argument = kByName;
  plan.content.slices[0].tensor = plan.content.add_tensor("layers.1.norm");
  plan.encode();
  ASSERT_TRUE(own_names.start(plan.view().tensors(), plan.view().text()));
  const test::DeviceBlock block(4096);
  own_names.add_region(1, 9, block.address(), 4096);
  own_names.name_region(1, 0, 0, "layers.1.norm");
  ASSERT_EQ(edit(plan, program.graph()), Refusal::none);
  EXPECT_EQ(added.fetched_bytes(), 0u);
  EXPECT_EQ(added.missing_bytes(), 256u);
}

// NCCL's own nodes and what else captures bring along.
TEST_F(GraphEditor, NodesThatAreNoKernelsStandBetweenThem) {
  Step step = test::decode_step(2);
  step.nodes[2].kernel = step.nodes[5].kernel =
      "_Z30ncclDevKernel_AllReduce_Sum_bf16P12ncclDevComm";
  const Plan plan(step, {});
  // host function -> collective -> event, and a copy at the side
  Step captured = step;
  for (size_t at : {size_t{2}, size_t{4}}) {
    captured.nodes.insert(captured.nodes.begin() + static_cast<ptrdiff_t>(at), Step::Node{});
  }
  for (size_t i = 1; i < captured.nodes.size(); ++i) captured.nodes[i].after = {i - 1};
  for (const CUgraphNodeType type :
       {CU_GRAPH_NODE_TYPE_HOST, CU_GRAPH_NODE_TYPE_MEMCPY, CU_GRAPH_NODE_TYPE_MEMSET,
        CU_GRAPH_NODE_TYPE_GRAPH, CU_GRAPH_NODE_TYPE_EMPTY, CU_GRAPH_NODE_TYPE_WAIT_EVENT,
        CU_GRAPH_NODE_TYPE_EVENT_RECORD, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP}) {
    Program program(captured, 1024);
    program.node(2)->type = program.node(4)->type = type;
    const Listed before = list(program.graph());
    const std::vector<uint64_t> result = program.result();
    ASSERT_EQ(edit(plan, program.graph()), Refusal::none) << type;
    EXPECT_EQ(added.nodes().size(), 2u);
    EXPECT_THAT(list(program.graph()).edges,
                testing::Contains(std::tuple(program.node(3), added.nodes()[0], 2, 1)));
    EXPECT_TRUE(is_part(before, list(program.graph())));
    EXPECT_EQ(program.result(), result);
  }
}

TEST_F(GraphEditor, MoreSlicesThanOneNodeTakesGoIntoSeveral) {
  const Step step = test::decode_step(2);
  Program program(step, 4096);
  const Plan plan(step, {.slices = kMostRanges + 3, .slice_bytes = 32});
  ASSERT_EQ(edit(plan, program.graph()), Refusal::none);
  EXPECT_EQ(added.nodes().size(), 4u);
  EXPECT_EQ(added.fetched_bytes(), 2u * (kMostRanges + 3) * 32);
}

TEST_F(GraphEditor, RefusesByName) {
  const Step step = test::decode_step(3);
  const Plan plan(step, {});
  Program program(step, 512);
  const Listed before = list(program.graph());
  const auto refusal_with = [&](auto change, auto restore) {
    change();
    const Refusal refusal = edit(plan, program.graph());
    restore();
    EXPECT_EQ(list(program.graph()).nodes, before.nodes);
    return refusal;
  };
  CUgraphNode node = program.node(4);
  const auto as_type = [&](uint32_t type) {
    return refusal_with([&] { std::memcpy(&node->type, &type, sizeof(type)); },
                        [&] { node->type = CU_GRAPH_NODE_TYPE_KERNEL; });
  };
  EXPECT_EQ(as_type(CU_GRAPH_NODE_TYPE_CONDITIONAL), Refusal::conditional);
  EXPECT_EQ(as_type(CU_GRAPH_NODE_TYPE_MEM_ALLOC), Refusal::memory_nodes);
  EXPECT_EQ(as_type(99), Refusal::unknown_node);
  EXPECT_EQ(as_type(CU_GRAPH_NODE_TYPE_HOST), Refusal::another_step);
  EXPECT_EQ(
      refusal_with([&] { node->device_updatable = true; }, [&] { node->device_updatable = false; }),
      Refusal::device_updatable);
  CUgraphEdgeData& edge = node->edges.front().second;
  EXPECT_EQ(refusal_with([&] { edge.from_port = 7; }, [&] { edge.from_port = 0; }),
            Refusal::unknown_edge);
  EXPECT_EQ(refusal_with([&] { edge.reserved[2] = 1; }, [&] { edge.reserved[2] = 0; }),
            Refusal::unknown_edge);
  prefetch.function = nullptr;
  EXPECT_EQ(edit(plan, program.graph()), Refusal::no_module);
  for (size_t i = 0; i < static_cast<size_t>(Refusal::count); ++i) {
    EXPECT_EQ(kRefusalNames[i].empty(), i == 0);
  }
}

TEST_F(GraphEditor, PartsThatOccurTwiceAreAmbiguousAndOthersUnknown) {
  const Plan plan(test::decode_step(4), {});
  Step layer;
  layer.nodes = {{"_ZN4vllm4normIfEEvPT_"}, {"gemm", {0}}, {"cross_device_reduce", {1}}};
  Program program(layer, 512);
  EXPECT_EQ(edit(plan, program.graph()), Refusal::ambiguous);
  layer.nodes[1].kernel = "attention";
  Program other(layer, 512);
  EXPECT_EQ(edit(plan, other.graph()), Refusal::another_step);
  Step sparse;
  sparse.nodes = {{"embedding"}, {"gemm", {0}}};
  Program first(sparse, 512);
  EXPECT_EQ(edit(plan, first.graph()), Refusal::no_window);
  Program empty({}, 512);
  EXPECT_EQ(edit(plan, empty.graph()), Refusal::another_step);
}

// The number of calls of the driver, which is what takes the time.
TEST_F(GraphEditor, WorkGrowsWithTheGraphAndNoFaster) {
  const auto calls = [&](size_t layers) {
    const Step step = test::decode_step(layers);
    Program program(step, 512);
    const Plan plan(step, {});
    emulated::driver_calls = 0;
    EXPECT_EQ(edit(plan, program.graph()), Refusal::none);
    return emulated::driver_calls;
  };
  const int few = calls(4), many = calls(1667);  // 12 and 5,001 nodes
  EXPECT_LT(many, few / 12.0 * 5001 * 1.1);
}

TEST_F(GraphEditor, FailingCallAtAnyPlaceLeavesTheProgramAsItIs) {
  const Step step = test::decode_step(3);
  const Plan plan(step, {});
  Program program(step, 1024);
  const std::vector<uint64_t> result = program.result();
  const Listed before = list(program.graph());
  bool finished = false;
  for (int call = 1; !finished; ++call) {
    emulated::driver_calls = 0;
    emulated::failing_call = call;
    const Refusal refusal = edit(plan, program.graph());
    finished = emulated::driver_calls < call;
    emulated::failing_call = 0;
    if (refusal == Refusal::failed) {
      EXPECT_NE(error, CUDA_SUCCESS);
      EXPECT_EQ(list(program.graph()).nodes, before.nodes) << call;
      EXPECT_EQ(list(program.graph()).edges, before.edges) << call;
    } else {
      EXPECT_EQ(refusal, Refusal::none);
      for (const CUgraphNode node : added.nodes()) cuGraphDestroyNode(node);
    }
    ASSERT_LT(call, 500);
  }
  EXPECT_EQ(program.result(), result);
}

// Not even the nodes that were added can be taken out again.
TEST_F(GraphEditor, DriverThatGoesOnFailingDoesNotChangeTheResult) {
  const Step step = test::decode_step(3);
  const Plan plan(step, {});
  Program counted(step, 1024);
  const std::vector<uint64_t> result = counted.result();
  emulated::driver_calls = 0;
  ASSERT_EQ(edit(plan, counted.graph()), Refusal::none);
  const int calls = emulated::driver_calls;
  emulated::failing_on = true;
  for (int call = 1; call <= calls; ++call) {
    Program program(step, 1024);
    emulated::driver_calls = 0;
    emulated::failing_call = call;
    edit(plan, program.graph());
    emulated::failing_call = 0;
    EXPECT_EQ(program.result(), result);
  }
  emulated::failing_on = false;
}

Step random_step() {
  Step step;
  const int nodes = *rc::gen::inRange(1, 60);
  for (int i = 0; i < nodes; ++i) {
    Step::Node node;
    if (*rc::gen::inRange(0, 6) != 0) {
      node.kernel = std::string("kernel") + std::to_string(*rc::gen::inRange(0, 6));
    }
    std::set<size_t> after;
    for (int k = *rc::gen::inRange(0, 4); i > 0 && k > 0; --k) {
      after.insert(static_cast<size_t>(*rc::gen::inRange(0, i)));
    }
    node.after.assign(after.begin(), after.end());
    node.programmatic = *rc::gen::inRange(0, 5) == 0;
    step.nodes.push_back(node);
  }
  step.nodes.front().kernel = "first";  // nothing repeats within the step
  return step;
}

RC_GTEST_PROP(GraphEdit, AddsLeavesAloneAndTheSameToTheSameGraph, ()) {
  const Step step = random_step();
  PlanShape shape;
  shape.every = static_cast<size_t>(*rc::gen::inRange(1, 6));
  shape.first = static_cast<size_t>(*rc::gen::inRange(0, 3));
  shape.ahead = static_cast<size_t>(*rc::gen::inRange(0, 5));
  shape.slices = static_cast<size_t>(*rc::gen::inRange(1, 4));
  const Plan plan(step, shape);
  const Driver driver = test::emulated_driver();
  PrefetchKernel prefetch = test::emulated_prefetch();
  prefetch.has_start_edges = *rc::gen::arbitrary<bool>();
  Editor editor(driver, plan.view(), test::no_names());
  AddedNodes first_added, second_added;
  CUresult error = CUDA_SUCCESS;
  Program first(step, 1024);
  const Listed before = list(first.graph());
  const std::vector<uint64_t> result = first.result();
  const Refusal refusal = editor.edit(first.graph(), prefetch, first_added, error);
  if (plan.view().windows().empty()) {
    RC_ASSERT(refusal == Refusal::no_window);
    return;
  }
  RC_ASSERT(refusal == Refusal::none);
  const Listed after = list(first.graph());
  RC_ASSERT(is_part(before, after));
  const std::set<CUgraphNode> added(first_added.nodes().begin(), first_added.nodes().end());
  RC_ASSERT(after.nodes.size() == before.nodes.size() + added.size());
  // Nothing follows an added node: no path to a node of the program, and no cycle.
  for (const auto& [from, to, port, type] : after.edges) RC_ASSERT(added.count(from) == 0);
  RC_ASSERT(first.result() == result);

  // The same capture once more, in other memory, under the executable graph of the first.
  CUgraphExec executable = nullptr;
  RC_ASSERT(cuGraphInstantiateWithFlags(&executable, first.graph(),
                                        CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY) ==
            CUDA_SUCCESS);
  Program second(step, *rc::gen::arbitrary<bool>() ? 512 : 2048);
  RC_ASSERT(editor.edit(second.graph(), prefetch, second_added, error) == Refusal::none);
  CUgraphExecUpdateResultInfo info{};
  RC_ASSERT(cuGraphExecUpdate(executable, second.graph(), &info) == CUDA_SUCCESS);
  RC_ASSERT(second.result_of(executable) == result);
  cuGraphExecDestroy(executable);
}

TEST_F(GraphEditor, RefreshesAddressesThatTheProgramHasChanged) {
  const Step step = test::decode_step(2);
  Program program(step, 1024);
  const Plan plan(step, {});
  Editor editor(driver, plan.view(), names);
  ASSERT_EQ(editor.edit(program.graph(), prefetch, added, error), Refusal::none);
  const test::DeviceBlock moved(1024);
  auto* weights = static_cast<uint64_t*>(moved.memory);
  CUDA_KERNEL_NODE_PARAMS params{};
  cuGraphKernelNodeGetParams(program.node(3), &params);
  std::vector<void*> arguments(params.kernelParams, params.kernelParams + 3);
  arguments[1] = &weights;
  params.kernelParams = arguments.data();
  cuGraphKernelNodeSetParams(program.node(3), &params);
  ASSERT_EQ(editor.refresh(added), CUDA_SUCCESS);
  program.result();
  EXPECT_THAT(emulated::requests(),
              testing::Contains(testing::Field(&emulated::Request::address, moved.address())));
}

}  // namespace
}  // namespace preserve
