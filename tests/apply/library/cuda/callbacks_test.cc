// SPDX-License-Identifier: Apache-2.0
// CUPTI's callbacks around the program's calls of the emulated driver.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include "apply/library/cuda/process.h"
#include "hooks/cuda/cupti_library.h"
#include "tests/apply/library/cuda/cupti.h"
#include "tests/apply/library/cuda/process.h"

namespace {

std::unique_ptr<preserve::apply::GraphSession> session;

}  // namespace

void* preserve::hooks::find_cupti() {
  return ::dlopen(nullptr, RTLD_NOW);
}
preserve::apply::GraphSession* preserve::apply::graph_session() {
  return session.get();
}

namespace preserve {
namespace {

using namespace apply;
using test::call;

class GraphCallbacks : public testing::Test {
 protected:
  GraphCallbacks() { begin(); }
  void begin() {
    header_ = {};
    session = std::make_unique<GraphSession>(
        GraphSession::Surroundings{driver_, plan_.view(), test::no_names(), &header_, 0, &window_,
                                   samples_, "image", [] { return int64_t{7}; }});
    EXPECT_EQ(listen_to_driver(), Off::none);
    call("cuMemAlloc_v2", cuMemAlloc_v2_params{});
  }
  ~GraphCallbacks() override {
    emulated::drain();
    session.reset();
  }
  CUgraphExec instantiate(CUgraph graph) {
    CUgraphExec executable = nullptr;
    cuGraphInstantiateWithFlags_params params{&executable, graph, 0};
    EXPECT_EQ(call("cuGraphInstantiateWithFlags", params,
                   [&] { return cuGraphInstantiateWithFlags(&executable, graph, params.flags); }),
              CUDA_SUCCESS);
    EXPECT_EQ(header_.graphs.edited, 1u);
    return executable;
  }
  static CUresult update(CUgraphExec executable, CUgraph graph) {
    CUgraphExecUpdateResultInfo info{};
    cuGraphExecUpdate_v2_params params{executable, graph, &info};
    return call("cuGraphExecUpdate_v2", params,
                [&] { return cuGraphExecUpdate(executable, graph, &info); });
  }
  void launches(CUgraphExec executable, int count) {
    for (int i = 0; i < count; ++i) {
      call("cuGraphLaunch_ptsz", cuGraphLaunch_params{executable, stream_},
           [&] { return cuGraphLaunch(executable, stream_); });
      emulated::drain();
    }
  }
  static void destroy(CUgraphExec executable) {
    call("cuGraphExecDestroy", cuGraphExecDestroy_params{executable},
         [&] { return cuGraphExecDestroy(executable); });
  }
  const test::Step step_ = test::decode_step(2);
  const test::Plan plan_{step_, {}};
  Driver driver_ = test::emulated_driver();
  OutcomeHeader header_{};
  WindowOutcome window_{};
  std::vector<StepSample> samples_ = std::vector<StepSample>(64);
  const test::Stream stream_;
};

TEST_F(GraphCallbacks, FollowAGraphFromItsInstantiationToItsEnd) {
  EXPECT_FALSE(test::listens_to("cuInit"));
  EXPECT_FALSE(test::listens_to("cuGraphExecGetFlags"));
  test::Program first(step_, 1024), again(step_, 1024);
  const std::vector<uint64_t> expected = first.result();
  const CUgraphExec executable = instantiate(first.graph());
  EXPECT_EQ(header_.graphs.nodes, 2u);
  EXPECT_EQ(header_.graphs.priorities, 0u);
  call("cuGraphDestroy", cuGraphDestroy_params{first.graph()});
  launches(executable, 20);
  EXPECT_GT(header_.samples, 8u);
  EXPECT_EQ(update(executable, again.graph()), CUDA_SUCCESS);
  EXPECT_EQ(again.result_of(executable), expected);
  destroy(executable);
  EXPECT_EQ(header_.state, State::searching);
  EXPECT_EQ(header_.off, Off::none);
}

TEST_F(GraphCallbacks, FlagsInTheProgramsOwnMemoryArePutBack) {
  test::Program program(step_, 1024);
  CUgraphExec executable = nullptr;
  CUDA_GRAPH_INSTANTIATE_PARAMS params{};
  params.flags = CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
  uint64_t used = 0;
  cuGraphInstantiateWithParams_params instantiate{&executable, program.graph(), &params};
  call("cuGraphInstantiateWithParams_ptsz", instantiate, [&] {
    used = params.flags;
    return cuGraphInstantiateWithFlags(&executable, program.graph(), params.flags);
  });
  EXPECT_EQ(used, uint64_t{CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |
                           CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY});
  EXPECT_EQ(params.flags, uint64_t{CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH});
  EXPECT_EQ(header_.graphs.priorities, 1u);
  session->destroyed(executable);
  cuGraphExecDestroy(executable);
}

// Without our nodes the program may have room.
TEST_F(GraphCallbacks, FailedInstantiationTakesTheNodesOut) {
  test::Program program(step_, 1024);
  size_t before = 0, after = 0;
  cuGraphGetNodes(program.graph(), nullptr, &before);
  CUgraphExec executable = nullptr;
  cuGraphInstantiateWithFlags_params instantiate{&executable, program.graph(), 0};
  call("cuGraphInstantiateWithFlags", instantiate, [] { return CUDA_ERROR_OUT_OF_MEMORY; });
  cuGraphGetNodes(program.graph(), nullptr, &after);
  EXPECT_EQ(after, before);
  EXPECT_EQ(header_.off, Off::driver_failed);
}

// Nobody would follow the copy's nodes.
TEST_F(GraphCallbacks, ACopyIsMadeOfAGraphWithoutOurNodes) {
  CUgraphNodeParams params{};
  params.type = CU_GRAPH_NODE_TYPE_GRAPH;
  const auto of = [&](CUgraph graph) { return params.graph.graph = graph, &params; };
  const std::vector<std::function<void(CUgraph)>> ways = {
      [&](CUgraph graph) {
        call("cuGraphClone", cuGraphClone_params{nullptr, graph});
      },
      [&](CUgraph graph) {
        call("cuGraphAddChildGraphNode",
             cuGraphAddChildGraphNode_params{nullptr, nullptr, nullptr, 0, graph});
      },
      [&](CUgraph graph) {
        call("cuGraphAddNode", cuGraphAddNode_params{nullptr, nullptr, nullptr, 0, of(graph)});
      },
      [&](CUgraph graph) {
        call("cuGraphAddNode_v2",
             cuGraphAddNode_v2_params{nullptr, nullptr, nullptr, nullptr, 0, of(graph)});
      },
      [&](CUgraph graph) {
        call("cuGraphExecChildGraphNodeSetParams",
             cuGraphExecChildGraphNodeSetParams_params{nullptr, nullptr, graph});
      },
      [&](CUgraph graph) {
        call("cuGraphNodeSetParams", cuGraphNodeSetParams_params{nullptr, of(graph)});
      },
      [&](CUgraph graph) {
        call("cuGraphExecNodeSetParams",
             cuGraphExecNodeSetParams_params{nullptr, nullptr, of(graph)});
      }};
  for (const auto& copy : ways) {
    begin();
    test::Program program(step_, 1024);
    const size_t nodes = program.graph()->nodes.size();
    const CUgraphExec executable = instantiate(program.graph());
    EXPECT_GT(program.graph()->nodes.size(), nodes);
    copy(program.graph());
    EXPECT_EQ(program.graph()->nodes.size(), nodes);
    launches(executable, 20);
    EXPECT_EQ(header_.off, Off::none);
    EXPECT_GT(header_.fetched_bytes, 0u);
    cuGraphExecDestroy(executable);
  }
}

// Whichever call gives memory up, the next launch fetches nothing from it.
TEST_F(GraphCallbacks, FreedMemoryIsSeenInEveryCallThatFrees) {
  EXPECT_FALSE(test::listens_to("cuMemFreeHost"));
  EXPECT_FALSE(test::listens_to("cuGraphExecKernelNodeSetParams_v2"));
  for (const char* name :
       {"cuMemFree_v2", "cuMemFreeAsync_ptsz", "cuIpcCloseMemHandle", "cuMemUnmap"}) {
    begin();
    test::Program program(step_, 1024);
    const CUgraphExec executable = instantiate(program.graph());
    launches(executable, 20);
    EXPECT_EQ(header_.off, Off::none);
    call(name, cuMemUnmap_params{emulated::allocation_around(program.weight(0)).base, 1 << 20});
    launches(executable, 1);
    EXPECT_EQ(header_.off, Off::memory_gone) << name;
    cuGraphExecDestroy(executable);
  }
}

TEST_F(GraphCallbacks, ContextsGoByTheirHandleOrWithTheirDevice) {
  struct Way {
    const char* call;
    bool still_active;
  };
  for (const Way& way :
       {Way{"cuCtxDestroy_v2", true}, Way{"cuCtxDetach", true}, Way{"cuGreenCtxDestroy", true},
        Way{"cuDevicePrimaryCtxReset_v2", false}, Way{"cuDevicePrimaryCtxReset_v2", true},
        Way{"cuDevicePrimaryCtxRelease_v2", false}, Way{"cuDevicePrimaryCtxRelease_v2", true}}) {
    begin();
    test::Program program(step_, 1024);
    const CUgraphExec executable = instantiate(program.graph());
    launches(executable, 10);
    EXPECT_EQ(header_.state, State::measuring);
    const auto end = [&] {
      emulated::primary_active = way.still_active;
      return CUDA_SUCCESS;
    };
    const bool by_handle = !std::string_view(way.call).starts_with("cuDevice");
    const bool reset = std::string_view(way.call) == "cuDevicePrimaryCtxReset_v2";
    if (by_handle) {
      call(way.call, cuCtxDestroy_v2_params{emulated::context_of(0)}, end);
    } else {
      call(way.call, cuDevicePrimaryCtxReset_v2_params{0}, end);
    }
    EXPECT_EQ(header_.state,
              by_handle || reset || !way.still_active ? State::searching : State::measuring);
    emulated::primary_active = true;
    cuGraphExecDestroy(executable);
  }
}

// In the functions of per-thread streams 0 is another one than in the others.
TEST_F(GraphCallbacks, TheDefaultStreamIsTheOneThatTheCallMeans) {
  begin();
  test::Program program(step_, 1024);
  const CUgraphExec executable = instantiate(program.graph());
  static std::vector<CUstream> asked;
  asked.clear();
  driver_.is_capturing = [](CUstream stream, CUstreamCaptureStatus* status) {
    asked.push_back(stream);
    return *status = CU_STREAM_CAPTURE_STATUS_NONE, CUDA_SUCCESS;
  };
  cuGraphLaunch_params launch{executable, nullptr};
  call("cuGraphLaunch", launch);
  call("cuGraphLaunch_ptsz", launch);
  EXPECT_EQ(asked, (std::vector<CUstream>{nullptr, CU_STREAM_PER_THREAD}));
  driver_.is_capturing = cuStreamIsCapturing;
  cuGraphExecDestroy(executable);
}

// What a program calls often costs it nothing once nothing is fetched for good, and CUPTI is
// another tool's once no graph has nodes of the plan.
TEST_F(GraphCallbacks, APlanThatIsOffListensNoLongerThanItMust) {
  const char* const often[] = {"cuGraphLaunch_ptsz", "cuMemAlloc_v2", "cuMemFree_v2", "cuMemUnmap"};
  const char* const seldom[] = {"cuGraphInstantiateWithFlags", "cuGraphExecUpdate_v2",
                                "cuGraphDestroy", "cuGraphExecDestroy"};
  test::Program program(step_, 1024), again(step_, 1024);
  const CUgraphExec executable = instantiate(program.graph());
  while (window_.fetched_bytes == 0) launches(executable, 1);
  session->turn_off(Off::slow);
  for (int launch = 0; launch < 2; ++launch) {  // the second knows that the first has ended it
    for (const char* name : often) EXPECT_TRUE(test::listens_to(name)) << name;
    launches(executable, 1);
  }
  for (const char* name : often) EXPECT_FALSE(test::listens_to(name)) << name;
  for (const char* name : seldom) EXPECT_TRUE(test::listens_to(name)) << name;
  emulated::requests().clear();
  launches(executable, 10);
  EXPECT_TRUE(emulated::requests().empty());
  // The executable graph has the nodes, and is updated as before.
  EXPECT_EQ(update(executable, again.graph()), CUDA_SUCCESS);
  for (const CUgraph graph : {program.graph(), again.graph()}) {
    EXPECT_TRUE(test::is_subscribed());
    call("cuGraphDestroy", cuGraphDestroy_params{graph});
  }
  EXPECT_TRUE(test::is_subscribed());
  destroy(executable);
  EXPECT_FALSE(test::is_subscribed());
}

TEST_F(GraphCallbacks, APlanThatIsOffBeforeAnyGraphGivesCuptiUp) {
  session->turn_off(Off::driver_failed);
  EXPECT_TRUE(test::is_subscribed());
  call("cuMemAlloc_v2", cuMemAlloc_v2_params{});
  EXPECT_FALSE(test::is_subscribed());
}

TEST_F(GraphCallbacks, AnotherToolThatHoldsCuptiIsSaid) {
  test::held_by_other = true;
  EXPECT_EQ(listen_to_driver(), Off::no_callbacks);
  // CUPTI 13.2 takes several that agree.
  test::cupti_version = 130500;
  EXPECT_EQ(listen_to_driver(), Off::none);
  test::held_by_other = false;
  test::cupti_version = 130000;
  // Nor is CUPTI held without need.
  test::refuses_callbacks = true;
  EXPECT_EQ(listen_to_driver(), Off::no_callbacks);
  EXPECT_FALSE(test::is_subscribed());
  test::refuses_callbacks = false;
}

}  // namespace
}  // namespace preserve
