// SPDX-License-Identifier: Apache-2.0
// CUPTI's callbacks around the program's calls of the emulated driver. A CUPTI of three functions
// is in this executable.
#include <cupti.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>

#include "apply/library/cuda/process.h"
#include "hooks/cuda/cupti_library.h"
#include "tests/apply/library/cuda/program.h"

namespace {

CUpti_CallbackFunc callback = nullptr;
bool held_by_other = false;
std::map<std::string, bool> enabled;
const char* const kNames[] = {nullptr,
                              "cuInit",
                              "cuGraphInstantiateWithFlags",
                              "cuGraphInstantiateWithParams_ptsz",
                              "cuGraphLaunch_ptsz",
                              "cuGraphExecUpdate_v2",
                              "cuGraphExecKernelNodeSetParams_v2",
                              "cuGraphExecDestroy",
                              "cuGraphDestroy",
                              "cuGraphDestroyNode",
                              "cuMemAlloc_v2",
                              "cuGraphExecGetFlags"};
constexpr uint32_t kCalls = std::size(kNames);

std::unique_ptr<preserve::apply::GraphSession> session;

}  // namespace

extern "C" __attribute__((visibility("default"))) CUptiResult cuptiSubscribe(
    CUpti_SubscriberHandle*, CUpti_CallbackFunc function, void*) {
  if (held_by_other) return CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
  callback = function;
  return CUPTI_SUCCESS;
}
extern "C" __attribute__((visibility("default"))) CUptiResult cuptiEnableCallback(
    uint32_t, CUpti_SubscriberHandle, CUpti_CallbackDomain, CUpti_CallbackId id) {
  enabled[kNames[id]] = true;
  return CUPTI_SUCCESS;
}
extern "C" __attribute__((visibility("default"))) CUptiResult cuptiGetCallbackName(
    CUpti_CallbackDomain, uint32_t id, const char** name) {
  if (id >= kCalls) return CUPTI_ERROR_INVALID_PARAMETER;
  *name = kNames[id];
  return CUPTI_SUCCESS;
}

void* preserve::hooks::find_cupti() {
  return ::dlopen(nullptr, RTLD_NOW);
}
preserve::apply::GraphSession* preserve::apply::graph_session() {
  return session.get();
}

namespace preserve {
namespace {

using namespace apply;

// The program's call, with CUPTI around it.
template <typename Params, typename Function>
CUresult call(const char* name, Params& params, Function function) {
  uint32_t id = 1;
  while (id < kCalls && std::strcmp(kNames[id], name) != 0) ++id;
  CUresult result = CUDA_SUCCESS;
  CUpti_CallbackData data{};
  data.functionParams = &params;
  data.functionReturnValue = &result;
  data.callbackSite = CUPTI_API_ENTER;
  if (enabled[name]) callback(nullptr, CUPTI_CB_DOMAIN_DRIVER_API, id, &data);
  result = function();
  data.callbackSite = CUPTI_API_EXIT;
  if (enabled[name]) callback(nullptr, CUPTI_CB_DOMAIN_DRIVER_API, id, &data);
  return result;
}

class GraphCallbacks : public testing::Test {
 protected:
  GraphCallbacks() {
    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    session = std::make_unique<GraphSession>(
        GraphSession::Surroundings{driver_, plan_.view(), &header_, 0, &window_, samples_, "image",
                                   [] { return int64_t{7}; }, false});
    EXPECT_EQ(listen_to_driver(), Off::none);
    cuMemAlloc_v2_params allocate{};
    call("cuMemAlloc_v2", allocate, [] { return CUDA_SUCCESS; });
  }
  ~GraphCallbacks() override {
    emulated::drain();
    session.reset();
    cudaStreamDestroy(stream_);
  }
  void launches(CUgraphExec executable, int count) {
    for (int i = 0; i < count; ++i) {
      cuGraphLaunch_params launch{executable, stream_};
      call("cuGraphLaunch_ptsz", launch, [&] { return cuGraphLaunch(executable, stream_); });
      emulated::drain();
    }
  }
  const test::Step step_ = test::decode_step(2);
  const test::Plan plan_{step_, {}};
  const Driver driver_ = test::emulated_driver();
  OutcomeHeader header_{};
  WindowOutcome window_{};
  std::vector<StepSample> samples_ = std::vector<StepSample>(64);
  CUstream stream_ = nullptr;
};

TEST_F(GraphCallbacks, FollowAGraphFromItsInstantiationToItsEnd) {
  EXPECT_FALSE(enabled["cuInit"]);
  EXPECT_FALSE(enabled["cuGraphExecGetFlags"]);
  test::Program first(step_, 1024), again(step_, 1024);
  const std::vector<uint64_t> expected = first.result();
  CUgraphExec executable = nullptr;
  cuGraphInstantiateWithFlags_params instantiate{&executable, first.graph(), 0};
  call("cuGraphInstantiateWithFlags", instantiate,
       [&] { return cuGraphInstantiateWithFlags(&executable, first.graph(), instantiate.flags); });
  EXPECT_EQ(header_.graphs.nodes, 2u);
  EXPECT_EQ(header_.graphs.priorities, 0u);
  cuGraphDestroy_params destroy{first.graph()};
  call("cuGraphDestroy", destroy, [] { return CUDA_SUCCESS; });
  launches(executable, 20);
  EXPECT_GT(header_.samples, 8u);
  CUgraphExecUpdateResultInfo info{};
  cuGraphExecUpdate_v2_params update{executable, again.graph(), &info};
  EXPECT_EQ(call("cuGraphExecUpdate_v2", update,
                 [&] { return cuGraphExecUpdate(executable, again.graph(), &info); }),
            CUDA_SUCCESS);
  EXPECT_EQ(again.result_of(executable), expected);
  cuGraphExecDestroy_params end{executable};
  call("cuGraphExecDestroy", end, [&] { return cuGraphExecDestroy(executable); });
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

TEST_F(GraphCallbacks, AnotherToolThatHoldsCuptiIsSaid) {
  held_by_other = true;
  EXPECT_EQ(listen_to_driver(), Off::no_callbacks);
  held_by_other = false;
}

}  // namespace
}  // namespace preserve
