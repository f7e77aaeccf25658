// SPDX-License-Identifier: Apache-2.0
// A small decode loop on one GPU that knows nothing of Preserve: every layer streams its weights
// and ends in a kernel named as vLLM's allreduce (one GPU: it only moves its message). Captured
// into a CUDA graph and replayed, or launched kernel by kernel. Prints one JSON object. Used by
// scripts/gpu-check.
//
//   gpu_decode [--steps N] [--layers N] [--weight-mib N] [--eager] [--serve] [--probe]
#include <cuda_profiler_api.h>
#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

constexpr int kThreads = 256;

using Word = unsigned long long;
constexpr Word kFactor = 6364136223846793005, kSummand = 1442695040888963407;

// In integers, whose sum is the same in any order and forgets nothing.
__global__ void gemm_stream(const uint4* weights, size_t count, Word* out) {
  unsigned sum = 0;
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < count;
       i += size_t{gridDim.x} * blockDim.x) {
    const uint4 w = weights[i];
    sum += w.x + w.y + w.z + w.w;
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_down_sync(~0u, sum, lanes);
  if (threadIdx.x % 32 == 0) atomicAdd(out + blockIdx.x % 64, Word{sum});
}

// A step that can be undone: no two messages become one.
__global__ void cross_device_reduce_1stage(Word* message, size_t count) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < count;
       i += size_t{gridDim.x} * blockDim.x) {
    message[i] = message[i] * kFactor + kSummand;
  }
}

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  int driver = 0;
  if (error == cudaErrorInsufficientDriver) cudaDriverGetVersion(&driver);
  if (error == cudaErrorInsufficientDriver && driver == 0) {
    std::fprintf(stderr, "gpu_decode: no NVIDIA driver\n");
  } else if (error == cudaErrorInsufficientDriver) {
    std::fprintf(stderr,
                 "gpu_decode: the NVIDIA driver speaks CUDA %d.%d, this was built with %d.%d: "
                 "update the driver%s\n",
                 driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                 CUDART_VERSION % 1000 / 10, CUDART_VERSION / 1000 == 13 ? " to 580 or newer" : "");
  } else {
    std::fprintf(stderr, "gpu_decode: %s: %s\n", what, cudaGetErrorString(error));
  }
  std::exit(error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ? 2 : 3);
}

struct Options {
  int steps = 200, layers = 16, weight_mib = 8;
  bool eager = false, probe = false;
  bool serve = false;  // waits for each step before the next, and keeps the graph's template
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    int* number = word == "--steps"        ? &options.steps
                  : word == "--layers"     ? &options.layers
                  : word == "--weight-mib" ? &options.weight_mib
                                           : nullptr;
    if (number != nullptr && i + 1 < argc) {
      *number = std::atoi(argv[++i]);
      if (*number > 0 && *number <= 1'000'000) continue;
    }
    if (word == "--eager") {
      options.eager = true;
    } else if (word == "--serve") {
      options.serve = true;
    } else if (word == "--probe") {
      options.probe = true;
    } else {
      std::fprintf(stderr, "gpu_decode: bad argument %s\n", word.c_str());
      std::exit(2);
    }
  }
  return options;
}

class Decoder {
 public:
  explicit Decoder(const Options& options) : options_(options) {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    check(cudaDeviceGetAttribute(&units_, cudaDevAttrMultiProcessorCount, 0), "attribute");
    weight_bytes_ = static_cast<size_t>(options.weight_mib) << 20;
    Word word = 1;
    std::vector<Word> values(weight_bytes_ / sizeof(Word));
    for (int layer = 0; layer < options.layers; ++layer) {
      for (Word& value : values) value = word = word * kFactor + kSummand;
      uint4* weights = nullptr;
      check(cudaMalloc(&weights, weight_bytes_), "weights");
      check(cudaMemcpy(weights, values.data(), weight_bytes_, cudaMemcpyHostToDevice), "weights");
      weights_.push_back(weights);
    }
    check(cudaMalloc(&message_, kMessageBytes), "message");
    std::vector<Word> message(kMessageBytes / sizeof(Word));
    for (size_t i = 0; i < message.size(); ++i) message[i] = i;
    check(cudaMemcpy(message_, message.data(), kMessageBytes, cudaMemcpyHostToDevice), "message");
    if (!options.eager) capture();
  }

  void step() {
    nvtxRangePushA("decode_step");
    if (options_.eager) {
      launch_layers();
    } else {
      check(cudaGraphLaunch(executable_, stream_), "graph launch");
    }
    nvtxRangePop();
  }
  cudaStream_t stream() const { return stream_; }

  // Of every byte that the loop has, by FNV-1a over 64-bit words.
  Word checksum() const {
    Word hash = 0xcbf29ce484222325;
    const auto add = [&hash](const void* memory, size_t bytes) {
      std::vector<Word> words(bytes / sizeof(Word));
      check(cudaMemcpy(words.data(), memory, bytes, cudaMemcpyDeviceToHost), "copy");
      for (const Word word : words) hash = (hash ^ word) * 0x100000001b3;
    };
    for (const uint4* weights : weights_) add(weights, weight_bytes_);
    add(message_, kMessageBytes);
    return hash;
  }

 private:
  static constexpr size_t kMessageBytes = 64 << 10;

  void launch_layers() {
    for (int layer = 0; layer < options_.layers; ++layer) {
      const std::string name = "layers." + std::to_string(layer) + ".mlp";
      nvtxRangePushA(name.c_str());
      gemm_stream<<<units_ * 4, kThreads, 0, stream_>>>(weights_[static_cast<size_t>(layer)],
                                                        weight_bytes_ / sizeof(uint4), message_);
      nvtxRangePop();
      nvtxRangePushA("allreduce");
      cross_device_reduce_1stage<<<36, kThreads, 0, stream_>>>(message_,
                                                               kMessageBytes / sizeof(Word));
      nvtxRangePop();
    }
  }
  void capture() {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    launch_layers();
    check(cudaStreamEndCapture(stream_, &graph), "capture");
    check(cudaGraphInstantiate(&executable_, graph, 0), "instantiate");
    if (!options_.serve) check(cudaGraphDestroy(graph), "graph");
  }

  const Options& options_;
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
  int units_ = 0;
  size_t weight_bytes_ = 0;
  std::vector<uint4*> weights_;
  Word* message_ = nullptr;
};

struct StepTimes {
  double median_ns = 0, mean_ns = 0;  // the mean with what lies between two steps
};
StepTimes step_times(Decoder& decoder, const Options& options) {
  std::vector<cudaEvent_t> events(static_cast<size_t>(options.steps) + 1);
  for (cudaEvent_t& event : events) check(cudaEventCreate(&event), "event");
  check(cudaEventRecord(events[0], decoder.stream()), "event");
  for (size_t i = 1; i < events.size(); ++i) {
    decoder.step();
    check(cudaEventRecord(events[i], decoder.stream()), "event");
    if (options.serve) check(cudaStreamSynchronize(decoder.stream()), "step");
  }
  check(cudaStreamSynchronize(decoder.stream()), "steps");
  std::vector<double> ns;
  for (size_t i = 1; i < events.size(); ++i) {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, events[i - 1], events[i]), "event");
    ns.push_back(static_cast<double>(ms) * 1e6);
  }
  std::nth_element(ns.begin(), ns.begin() + static_cast<long>(ns.size() / 2), ns.end());
  float all_ms = 0;
  check(cudaEventElapsedTime(&all_ms, events.front(), events.back()), "event");
  return {ns[ns.size() / 2], static_cast<double>(all_ms) * 1e6 / options.steps};
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  int devices = 0, driver = 0;
  check(cudaGetDeviceCount(&devices), "no GPU");
  check(cudaDriverGetVersion(&driver), "driver");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device");
  if (options.probe) {
    std::printf("{\"gpu\":\"%s\",\"driver_cuda\":%d,\"compute\":\"%d.%d\",\"l2_bytes\":%d}\n",
                properties.name, driver, properties.major, properties.minor,
                properties.l2CacheSize);
    return 0;
  }
  Decoder decoder(options);
  for (int i = 0; i < 20; ++i) decoder.step();  // warm: clocks, caches, lazy loading
  check(cudaStreamSynchronize(decoder.stream()), "warm-up");
  check(cudaProfilerStart(), "profiler");
  const StepTimes times = step_times(decoder, options);
  check(cudaProfilerStop(), "profiler");
  std::printf(
      "{\"gpu\":\"%s\",\"steps\":%d,\"layers\":%d,\"weight_mib\":%d,\"graph\":%s,"
      "\"step_ns\":%.0f,\"mean_step_ns\":%.0f,\"checksum\":\"%016llx\"}\n",
      properties.name, options.steps, options.layers, options.weight_mib,
      options.eager ? "false" : "true", times.median_ns, times.mean_ns, decoder.checksum());
  return 0;
}
