// SPDX-License-Identifier: Apache-2.0
// Every graph of a GPU's calibration is one that the CUDA device takes, and that runs there. What
// it then measures is played by the simulated GPU, which knows of caches what the emulation does
// not.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/replay/gpu/small_gpu.h"

namespace preserve {
namespace {

test::FakeGpuProperties like(const GpuFacts& facts) {
  test::FakeGpuProperties properties = test::small_gpu();
  properties.facts.sms = facts.sms;
  properties.facts.compute_major = facts.compute_major;
  properties.far_bytes_per_s = 12e9;
  return properties;
}

// The simulated GPU, and a CUDA device that prepares the same graphs and runs each kind
// of them once.
class Beside final : public GpuDevice {
 public:
  explicit Beside(GpuDevice& cuda) : cuda_(cuda), fake_(like(cuda.facts())) {}

  const GpuFacts& facts() const override { return fake_.facts(); }
  GpuState state() override { return fake_.state(); }
  GpuAddress allocate(int64_t bytes) override {
    const GpuAddress address = fake_.allocate(bytes);
    ranges_[address] = {cuda_.allocate(bytes), bytes};
    return address;
  }
  void make_chain(GpuAddress address, int64_t bytes, uint64_t seed) override {
    fake_.make_chain(address, bytes, seed);
    cuda_.make_chain(ranges_.at(address).address, bytes, seed);
  }
  int add(const GpuGraph& graph) override {
    GpuGraph there = graph;
    for (GpuNode& node : there.nodes) {
      for (GpuRange& range : node.ranges) range.address = translated(range.address);
    }
    const int number = fake_.add(graph);
    const int on_cuda = cuda_.add(there);
    ++added_;
    if (kinds_.insert(shape_of(graph)).second) {  // both read the same bytes
      EXPECT_EQ(cuda_.run(on_cuda, 1).checksum, fake_.run(number, 1).checksum);
    }
    cuda_.drop(on_cuda);
    return number;
  }
  void drop(int graph) override { fake_.drop(graph); }
  GpuRun run(int graph, int times) override { return fake_.run(graph, times); }
  void set_persisting_l2(std::optional<int64_t> bytes) override { fake_.set_persisting_l2(bytes); }
  int64_t probe_clock_ns() override { return fake_.probe_clock_ns(); }
  const std::vector<int>& sm_halves() override { return fake_.sm_halves(); }
  std::string make_collective_id() override { return fake_.make_collective_id(); }
  void join(const std::string& id, int rank, int ranks) override { fake_.join(id, rank, ranks); }
  bool can_multiply(GpuElement element) override { return fake_.can_multiply(element); }

  int added() const { return added_; }
  size_t kinds() const { return kinds_.size(); }
  int64_t monotonic_ns() const { return fake_.monotonic_ns(); }

 private:
  using Shape = std::vector<int>;

  static Shape shape_of(const GpuGraph& graph) {
    Shape shape{graph.as_graph};
    for (const GpuNode& node : graph.nodes) {
      shape.insert(shape.end(),
                   {static_cast<int>(node.kind), static_cast<int>(node.fetch),
                    static_cast<int>(node.eviction), node.sm_half, node.with_start_of,
                    node.link_bytes > 0, node.kind == GpuNodeKind::read && node.ctas > 0});
    }
    return shape;
  }

  GpuAddress translated(GpuAddress address) const {
    const auto& [begin, range] = *std::prev(ranges_.upper_bound(address));
    return range.address + (address - begin);
  }

  GpuDevice& cuda_;
  test::FakeGpu fake_;
  std::map<GpuAddress, GpuRange> ranges_;
  std::set<Shape> kinds_;
  int added_ = 0;
};

TEST(EmulatedCalibration, TheCudaDeviceTakesEveryGraph) {
  const std::unique_ptr<GpuDevice> cuda = open_cuda_device(0);
  Beside gpu(*cuda);
  GpuCalibrateOptions options;
  options.runs_per_value = options.least_rounds = options.most_rounds = 1;
  options.clock = [&] { return gpu.monotonic_ns(); };
  const GpuCalibrationSamples samples = measure_gpu(gpu, options);
  EXPECT_EQ(samples.second.counted, 1) << "both phases";
  EXPECT_GT(gpu.added(), 400);
  EXPECT_GT(gpu.kinds(), 25u);
}

}  // namespace
}  // namespace preserve
