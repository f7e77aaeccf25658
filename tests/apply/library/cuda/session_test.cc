// SPDX-License-Identifier: Apache-2.0
#include "apply/library/cuda/session.h"

#include <gtest/gtest.h>

#include "tests/apply/library/cuda/process.h"

namespace preserve {
namespace {

using namespace apply;
using namespace test;

constexpr size_t kOriginal = static_cast<size_t>(Arm::original),
                 kNull = static_cast<size_t>(Arm::null),
                 kApplied = static_cast<size_t>(Arm::applied);

TEST(GraphSession, ArmsOfTheGraphThatRunsMostFollowTheirOrder) {
  Running process(test::decode_step(3));
  EXPECT_EQ(process.header.graphs.edited, 1u);
  EXPECT_EQ(process.header.rank, 3);
  EXPECT_EQ(process.header.graphs.nodes, 3u);
  EXPECT_EQ(process.header.graphs.priorities, 1u);
  process.steps(7);  // not known to be the one that runs most
  EXPECT_EQ(process.header.state, State::searching);
  EXPECT_FALSE(process.fetched);
  for (uint32_t step = 0; step < 40; ++step) {
    process.launch();
    const Arm arm = place_of(step, {}, Mode::guard, kDefaultControlEvery).arm;
    EXPECT_EQ(process.fetched, arm == Arm::applied) << step;
    EXPECT_EQ(process.launched_without, arm == Arm::original ? 3u : 0u) << step;
  }
  EXPECT_EQ(process.header.graphs.disables, 1u);
  EXPECT_EQ(process.header.state, State::measuring);
  EXPECT_EQ(process.header.samples, 39u);
  for (size_t arm : {kOriginal, kNull, kApplied}) EXPECT_GT(process.header.steps[arm], 0u);
  EXPECT_EQ(process.window.fetched_bytes, process.window.opened * 3 * 256);
}

// As PyTorch does, unless it is asked to keep it.
TEST(GraphSession, WithoutTheTemplateTheOriginalArmHasNodesThatAreOff) {
  Running process(test::decode_step(3));
  process.session->destroyed(process.program->graph());
  process.steps(7);
  for (uint32_t step = 0; step < 20; ++step) {
    process.launch();
    EXPECT_EQ(process.fetched,
              place_of(step, {}, Mode::guard, kDefaultControlEvery).arm == Arm::applied);
    EXPECT_EQ(process.launched_without, 0u);
  }
  EXPECT_EQ(process.header.graphs.disables, 0u);
  EXPECT_EQ(process.header.off, Off::none);
}

// The driver is not told: another thread may destroy the executable graph at the same time.
TEST(GraphSession, TemplateThatGoesAfterALaunchWithoutNodesLeavesThemEnabled) {
  Running process(test::decode_step(3));
  while (process.launched_without == 0 || process.disabled() > 0) process.launch();
  const int calls = emulated::driver_calls;
  process.session->destroyed(process.program->graph());
  EXPECT_EQ(emulated::driver_calls, calls);
  EXPECT_EQ(process.disabled(), 0u);
  process.program->give_up_graph();
  process.steps(20);
  EXPECT_EQ(process.header.off, Off::none);
  EXPECT_EQ(process.header.graphs.disables, 0u);
  EXPECT_GT(process.window.fetched_bytes, 0u);
}

TEST(GraphSession, ACopyIsMadeWithoutNodesAndTheExecutableKeepsIts) {
  Captured process(test::decode_step(3));
  const size_t nodes = process.program->graph()->nodes.size();
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  while (process.launched_without == 0 || process.disabled() > 0) process.launch();
  process.session->copying(process.program->graph());
  EXPECT_EQ(process.program->graph()->nodes.size(), nodes);
  EXPECT_EQ(process.disabled(), 0u);
  while (!process.fetched) process.launch();
  ASSERT_EQ(process.update(), CUDA_SUCCESS);  // gives them back
  process.steps(20);
  EXPECT_EQ(process.header.off, Off::none);
}

TEST(GraphSession, ANodeOfOursThatTheProgramDestroysIsUsedNoMore) {
  Running process(test::decode_step(3));
  const CUgraphNode ours = process.program->graph()->nodes.back().get();
  process.session->destroyed(ours);
  ASSERT_EQ(cuGraphDestroyNode(ours), CUDA_SUCCESS);
  process.steps(20);
  EXPECT_EQ(process.header.off, Off::none);
  process.destroy();
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  EXPECT_EQ(process.header.off, Off::none);
  process.session->turn_off(Off::slow);
  process.session->instantiating(process.program->graph(), 0);  // without the others
  EXPECT_EQ(process.header.off, Off::slow);
}

TEST(GraphSession, ResultsAreTheSameInEveryArmAndAfterUpdates) {
  const Step step = test::decode_step(3);
  Captured process(step);
  const std::vector<uint64_t> expected = process.program->result();
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  for (int i = 0; i < 30; ++i) {
    process.launch();
    EXPECT_EQ(process.result(), expected) << i;
    if (i % 5 != 4) continue;
    // The same step in other memory. The template of the executable goes at the last.
    Program other(step, 512);
    ASSERT_EQ(process.update(other.graph()), CUDA_SUCCESS);
    EXPECT_EQ(process.disabled(), 0u);
    EXPECT_EQ(other.result_of(process.executable), expected);
    process.session->destroyed(other.graph());
    process.capture();
    ASSERT_EQ(process.update(), CUDA_SUCCESS);
  }
  EXPECT_EQ(process.header.off, Off::none);
}

TEST(GraphSession, DryRunAndOriginalFetchNothing) {
  for (const Mode mode : {Mode::dry_run, Mode::original}) {
    Running process(test::decode_step(3), mode);
    EXPECT_EQ(process.header.graphs.nodes, mode == Mode::original ? 0u : 3u);
    for (int i = 0; i < 30; ++i) {
      process.launch();
      EXPECT_FALSE(process.fetched);
    }
    EXPECT_GT(process.header.steps[kOriginal], 0u);
    EXPECT_EQ(process.header.steps[kNull] > 0, mode == Mode::dry_run);
    EXPECT_EQ(process.header.steps[kApplied], 0u);
  }
}

TEST(GraphSession, LaunchesFarAheadAreNotMeasured) {
  Running process(test::decode_step(2));
  for (int i = 0; i < 60; ++i) process.launch(i % 20 == 19);
  EXPECT_GT(process.header.graphs.unpaired, 0u);
  EXPECT_EQ(process.header.off, Off::none);
  process.steps(12);
  EXPECT_EQ(process.header.off, Off::none);
  EXPECT_GT(process.header.samples, 10u);
}

TEST(GraphSession, AnotherTopologyTurnsThePlanOffAndTheProgramGoesOn) {
  Running process(test::decode_step(3));
  process.steps(10);
  Program other(test::decode_step(4), 512);
  ASSERT_NE(process.update(other.graph()), CUDA_SUCCESS);
  EXPECT_EQ(process.header.off, Off::graph_changes);
  process.destroy();
  process.capture();
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  EXPECT_EQ(process.header.graphs.edited, 1u);
  process.steps(10);
  EXPECT_FALSE(process.fetched);
}

TEST(GraphSession, AfterThePlanATemplateHasItsOwnShapeAgain) {
  Captured process(test::decode_step(3));
  const size_t nodes = process.program->graph()->nodes.size();
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  CUgraphExec first = process.executable;
  EXPECT_EQ(process.program->graph()->nodes.size(), nodes + 3);
  process.session->turn_off(Off::slow);
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  EXPECT_EQ(process.program->graph()->nodes.size(), nodes);
  // Neither executable is refused an update: that of before has the nodes, that of after has none.
  process.capture();
  EXPECT_EQ(process.update(), CUDA_SUCCESS);
  std::swap(first, process.executable);
  process.capture();
  EXPECT_EQ(process.update(), CUDA_SUCCESS);
  process.session->destroyed(first);
  cuGraphExecDestroy(first);
}

TEST(GraphSession, LaunchIntoACaptureIsLeftAlone) {
  Running process(test::decode_step(3));
  process.steps(12);
  CUgraph outer = nullptr;
  cuGraphCreate(&outer, 0);
  process.stream->capturing = outer;
  const int calls = emulated::driver_calls;
  EXPECT_FALSE(process.session->launching(process.executable, process.stream));
  EXPECT_EQ(emulated::driver_calls, calls + 3);  // relaxed, asked, as before
  process.stream->capturing = nullptr;
  cuGraphDestroy(outer);
  EXPECT_EQ(process.header.off, Off::copied);
}

TEST(GraphSession, DeviceLaunchAndOtherGraphsAreCountedByName) {
  Captured process(test::decode_step(3));
  const auto begun = process.session->instantiating(process.program->graph(),
                                                    CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH);
  EXPECT_EQ(begun.flags, uint64_t{CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH});
  EXPECT_EQ(process.header.graphs.refused[static_cast<size_t>(Refusal::device_launch)], 1u);
  Program other(test::decode_step(5), 512);
  process.session->instantiating(other.graph(), 0);
  EXPECT_EQ(process.header.graphs.refused[static_cast<size_t>(Refusal::another_step)], 1u);
}

// The shape of the step, of other kernels: an update that the driver takes from the program alone.
TEST(GraphSession, AnUpdateToOtherKernelsIsNotRefusedForOurNodes) {
  for (const bool start_edges : {true, false}) {
    emulated::driver_version = start_edges ? 13000 : 12020;
    Running each(test::decode_step(3));
    each.steps(20);
    EXPECT_EQ(each.header.off, Off::none);
    Step step = test::decode_step(3);
    for (Step::Node& node : step.nodes) node.kernel += "_long";
    for (int again = 0; again < 2; ++again) {
      Program other(step, 512);
      const std::vector<uint64_t> expected = other.result();
      ASSERT_EQ(each.update(other.graph()), CUDA_SUCCESS);
      EXPECT_EQ(other.result_of(each.executable), expected);
      each.session->destroyed(other.graph());
      EXPECT_EQ(each.header.off, Off::graph_changes);
    }
    emulated::driver_version = 13000;
  }
}

// Nodes of the program's own that come or go before it is instantiated again: updates of what is
// made of it then must get the shape that it has.
TEST(GraphSession, ATemplateThatTheProgramHasChangedIsEditedAfresh) {
  Running process(test::decode_step(3));
  const auto add_own = [](CUgraph graph) {
    CUgraphNode own = nullptr;
    CUgraphNodeParams params{};
    params.type = CU_GRAPH_NODE_TYPE_EMPTY;
    ASSERT_EQ(cuGraphAddNode(&own, graph, nullptr, nullptr, 0, &params), CUDA_SUCCESS);
  };
  add_own(process.program->graph());
  process.destroy();
  ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
  EXPECT_EQ(process.header.graphs.edited, 2u);
  process.capture();
  add_own(process.program->graph());
  EXPECT_EQ(process.update(), CUDA_SUCCESS);
  EXPECT_EQ(process.header.off, Off::none);
}

// As many nodes, but no kernel where ours are to stand.
TEST(GraphSession, AnUpdateWithoutThePlansKernelsIsNoFailureOfOurs) {
  Running process(test::decode_step(1));
  process.steps(12);
  Step step = test::decode_step(1);
  for (Step::Node& node : step.nodes) node.kernel.clear();
  Program other(step, 512);
  process.session->updating(process.executable, other.graph());
  EXPECT_EQ(process.header.off, Off::none);
  EXPECT_EQ(other.graph()->nodes.size(), step.nodes.size());
  process.session->updated(process.executable, false);
  EXPECT_EQ(process.header.off, Off::graph_changes);
}

// The thread that destroys it names no executable graph to the driver: another one may be launching
// or destroying that at the same time.
TEST(GraphSession, TemplateThatGoesBetweenLaunchesWithoutNodesLeavesThemDisabled) {
  for (const bool launching : {true, false}) {
    Captured process(test::decode_step(3));
    const std::vector<uint64_t> expected = process.program->result();
    ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
    while (process.disabled() == 0) process.launch();
    if (launching) {
      ASSERT_TRUE(process.session->launching(process.executable, process.stream));
    }
    const int calls = emulated::driver_calls;
    process.session->destroyed(process.program->graph());
    EXPECT_EQ(emulated::driver_calls, calls);
    process.program->give_up_graph();
    EXPECT_EQ(process.disabled(), 3u);
    if (launching) {
      cuGraphLaunch(process.executable, process.stream);
      process.session->launched(process.executable, process.stream, true);
    }
    const uint64_t samples = process.header.samples;
    process.steps(20);
    EXPECT_EQ(process.header.samples, samples);
    EXPECT_EQ(process.result(), expected);
    // Another one is measured in its place.
    process.destroy();
    process.program = nullptr;
    process.capture();
    ASSERT_EQ(process.instantiate(), CUDA_SUCCESS);
    process.steps(30);
    EXPECT_GT(process.header.samples, samples);
    EXPECT_EQ(process.header.off, Off::none);
  }
}

// Whichever call fails: the plan goes, the program's own calls and results stay as they are.
TEST(GraphSession, FailingCallAtAnyPlaceTurnsThePlanOffForGood) {
  const Step step = test::decode_step(1);
  const auto run = [&](int failing, bool on) {
    emulated::failing_call = failing;
    emulated::failing_on = on;
    Process process(step);
    // The program's own calls do not fail.
    const auto own = [&](auto call) {
      const int counted = emulated::driver_calls;
      emulated::failing_call = 0;
      call();
      emulated::driver_calls = counted;
      emulated::failing_call = failing;
    };
    std::vector<uint64_t> expected;
    own([&] {
      process.capture();
      expected = process.program->result();
    });
    const auto instantiate = [&](CUgraph graph) {
      const GraphSession::Instantiation begun = process.session->instantiating(graph, 0);
      own([&] {
        EXPECT_EQ(cuGraphInstantiateWithFlags(&process.executable, graph, begun.flags),
                  CUDA_SUCCESS);
      });
      process.session->instantiated(graph, process.executable, begun, true);
    };
    instantiate(process.program->graph());
    std::unique_ptr<Program> other;
    for (int i = 0; i < 16; ++i) {
      if (i == 12) {  // the same step in other memory; a refusal is seen by the program
        own([&] { other = std::make_unique<Program>(step, 512); });
        process.session->updating(process.executable, other->graph());
        bool done = false;
        own([&] {
          CUgraphExecUpdateResultInfo info{};
          done = cuGraphExecUpdate(process.executable, other->graph(), &info) == CUDA_SUCCESS;
          // Nobody can add the nodes that the executable graph has when no call succeeds any more.
          EXPECT_TRUE(done || (on && process.header.off != Off::none)) << failing;
        });
        process.session->updated(process.executable, done);
        if (done) process.session->destroyed(process.program->graph());
        if (done) process.program.swap(other);
      }
      const bool measured = process.session->launching(process.executable, process.stream);
      own([&] { EXPECT_EQ(cuGraphLaunch(process.executable, process.stream), CUDA_SUCCESS); });
      EXPECT_FALSE(measured && process.header.off != Off::none);
      if (measured) process.session->launched(process.executable, process.stream, true);
      own([&] {
        emulated::drain();
        EXPECT_EQ(process.program->left(), expected) << failing;
      });
    }
    const int refused_at = emulated::driver_calls;
    // An update that the driver refuses for its own reasons, and what programs do then.
    std::unique_ptr<Program> third;
    own([&] { third = std::make_unique<Program>(step, 512); });
    process.session->updating(process.executable, third->graph());
    process.session->updated(process.executable, false);
    own([&] { process.destroy(); });
    instantiate(third->graph());
    EXPECT_FALSE(process.session->launching(process.executable, process.stream));
    own([&] {
      third->left();
      EXPECT_EQ(third->result_of(process.executable), expected) << failing;
    });
    process.session->destroyed(third->graph());
    if (other != nullptr) process.session->destroyed(other->graph());
    EXPECT_TRUE(process.header.off == Off::driver_failed || !on || failing + 20 > refused_at);
    return emulated::driver_calls;
  };
  const int calls = run(0, false);
  ASSERT_GT(calls, 50);
  for (int failing = 1; failing <= calls; ++failing) {
    run(failing, false);
    run(failing, true);
  }
}

}  // namespace
}  // namespace preserve
