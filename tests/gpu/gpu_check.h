// SPDX-License-Identifier: Apache-2.0
// scripts/gpu-check without a GPU: a bundle of shell scripts plays the tools.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/output_file.h"
#include "tests/support/paths.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

namespace fs = std::filesystem;

class GpuCheck : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_ / "bundle/bin");
    fs::create_directories(folder_ / "bundle/scripts");
    fs::copy_file(PRESERVE_SOURCE_DIR "/scripts/gpu-check", folder_ / "bundle/scripts/gpu-check");
    program("python3", "exit 1");
    play_gpu();
  }
  void program(const std::string& name, const std::string& body) {
    const fs::path path = folder_ / "bundle/bin" / name.c_str();
    std::ofstream(path) << "#!/bin/bash\n" << body << "\n";
    fs::permissions(path, fs::perms::owner_all);
  }
  void play_decode(const std::string& says) {
    program("gpu_decode",
            "[ \"$1\" = --probe ] && { echo '{\"gpu\":\"NVIDIA H100 Fake "
            "9000\",\"driver_cuda\":13000}'; exit; }\n" +
                says);
  }
  // A profiler that records nothing but `what`.
  void play_profiler(const std::string& says, const std::string& what = "echo trace") {
    program("preserve-profile",
            "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && out=$2; shift; done; shift\n" + what +
                " >\"$out\"; echo '" + says + "' >&2; exec \"$@\"");
  }
  // A GPU whose steps last 1000 us, and `node_ns`, `graph_ns` when profiled.
  void play_gpu(int node_ns = 1'000'000, int graph_ns = 1'000'000) {
    play_decode("echo \"{\\\"step_ns\\\":${FAKE_STEP_NS:-1000000}}\"");
    program("preserve-profile",
            "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && out=$2; [ \"$1\" = graph ] && graph=1; "
            "shift; done\n"
            "shift; echo trace >\"$out\"\n"
            "echo \"$out: 1 processes, 9 ranges, 640 operators, 0 collectives, 0 tensors, 40 "
            "steps\" >&2\n"
            "FAKE_STEP_NS=${graph:+" +
                std::to_string(graph_ns) +
                "}\n"
                "FAKE_STEP_NS=${FAKE_STEP_NS:-" +
                std::to_string(node_ns) + "} exec \"$@\"");
    program("gpu_test", "echo '[       OK ] Gpu.Something'");
    program("gpu_device_test",
            "echo '[       OK ] Gpu.One (3 ms)'; echo '[       OK ] Gpu.Two (3 ms)'\n"
            "echo '[  SKIPPED ] Gpu.Three (0 ms)'; echo '[  SKIPPED ] Gpu.Three'");
    play_report(32 << 20);
  }
  // A report in which a weight kernel reads `bytes` from DRAM.
  void play_report(int bytes) {
    program("preserve-report",
            "while [ \"$1\" != -o ]; do shift; done\n"
            "echo '{ \"counters\": [ {\"name\": \"gemm_stream(float4 const*)\", \"range\": \"\", "
            "\"count\": 80, \"dram_read_bytes\": {\"mean\": " +
                std::to_string(bytes) + ", \"min\": 1, \"max\": 2}}]}' >\"$2\"");
  }
  // What the measuring tools find. They write what they are asked for, and note how they were
  // called.
  struct Findings {
    double speedup = 1.03, low = 1.027, predicted = 1.05;  // low 0: too few samples
    double fidelity = 0.99;                                // 0: not known
    std::string planned_ns = "60000", realised_ns = "57000";
    double grid_fidelity = 0.99, grid_error = 0.01;
    double null = 1.001;  // of the loops themselves, original over null
  };
  void play_tools() { play_tools({}); }
  void play_tools(const Findings& found) {
    for (const char* file : {"devices/h100-sxm.json", "models/llama3-8b.json"}) {
      const fs::path path = folder_ / "bundle/examples" / file;
      fs::create_directories(path.parent_path());
      std::ofstream(path) << "{}";
    }
    const std::string outputs =
        "echo \"${0##*/} $*\" >>\"${0%/*}/calls\"; outputs=()\n"
        "while [ $# -gt 0 ]; do case $1 in -o|--trace-out) outputs+=(\"$2\"); shift ;; esac; "
        "shift; "
        "done\n";
    program("preserve-calibrate",
            outputs +
                "echo '{\"memory_bandwidth_bytes_per_s\": 3.0e12,' >\"${outputs[0]}\"\n"
                "echo ' \"cache_read_bandwidth_bytes_per_s\": 5500000000000.0}' "
                ">>\"${outputs[0]}\"");
    program("preserve-tune",
            outputs +
                "for file in \"${outputs[@]}\"; do echo '{\"plan\": {\"verdict\": \"prefetch\"}}' "
                ">\"$file\"; done");
    program("preserve-replay", outputs + "echo db >\"${outputs[0]}\"");
    nlohmann::json facts = nlohmann::json::array();
    for (const auto& [name, value] : {std::pair("predicted_saved_ns", found.planned_ns),
                                      {"realised_saved_ns", found.realised_ns},
                                      {"collective", "stand-in"}}) {
      facts.push_back({{"name", name}, {"value", value}});
    }
    nlohmann::json measured{{"facts", facts}, {"verdict", "FAST"}, {"speedup", nullptr}};
    if (found.low > 0) {
      measured["speedup"] = {{"low", found.low}, {"estimate", found.speedup}, {"high", 1.033}};
    }
    measured["fidelity"] = nullptr;
    if (found.fidelity > 0) measured["fidelity"] = {{"step", found.fidelity}};
    const auto arm = [](const char* name, double step_ns, double speedup) {
      return nlohmann::json{{"name", name},
                            {"step_ns", {{"estimate", step_ns}}},
                            {"speedup", {{"estimate", speedup}}}};
    };
    measured["arms"] = {arm("baseline", 1e6, 1), arm("null", 1e6 / found.null, found.null),
                        arm("prefetch", 1e6 / found.speedup, found.speedup)};
    measured["arms"][0]["speedup"] = nullptr;
    const nlohmann::json plan{{"verdict", "prefetch"},
                              {"predicted", {{"speedup", found.predicted}}}};
    const nlohmann::json report{
        {"counters", {{{"name", "gemm_stream"}, {"dram_read_bytes", {{"mean", 33554432}}}}}},
        {"scenarios", {{{"measured", measured}, {"plan", plan}}}}};
    std::ofstream(folder_ / "report.json") << report.dump();
    std::ofstream(folder_ / "grid.csv") << "model,dtype,ranks,batch,context,status\r\n"
                                           "m,fp16,8,1,2048,done\r\nm,fp16,8,8,2048,pending\r\n"
                                           "m,fp16,4,1,2048,done\r\n";
    std::ofstream(folder_ / "grid.json")
        << nlohmann::json{{"summary",
                           {{"done", 2},
                            {"fidelity_worst_cell", 1},
                            {"prediction_error_worst", found.grid_error},
                            {"realised_share", nullptr},
                            {"slowest_chosen", 1.0},
                            {"meant_cells", 2},
                            {"mean_chosen", {{"estimate", 1.02}}}}},
                          {"cells",
                           {{{"id", 1}, {"measured", {{"fidelity", found.grid_fidelity}}}},
                            {{"id", 2}, {"measured", nullptr}}}}};
    program(
        "preserve-report",
        outputs + fmt::format("for file in \"${{outputs[@]}}\"; do case ${{file##*/}} in grid.*) "
                              "cp '{0}/'${{file##*/}} \"$file\" ;; *) cp '{0}/report.json' "
                              "\"$file\" ;; esac; done",
                              folder_.path().string()));
    std::ofstream(folder_ / "grid.html") << "<html>";
  }
  // Both loops say what they computed, which is `applied` under a plan.
  void play_loops(const std::string& applied = "aa") {
    const std::string says =
        "echo \"{\\\"step_ns\\\":${FAKE_STEP_NS:-1000000},\\\"mean_step_ns\\\":1012000,"
        "\\\"checksum\\\":\\\"${FAKE_SUM:-aa}\\\"}\"";
    play_decode(says);
    program("python3", "case $2 in --probe|*nvidia*) exit 0 ;; esac\n" + says);
    program("preserve-apply",
            "echo \"${0##*/} $*\" >>\"${0%/*}/calls\"\n"
            "while [ \"$1\" != -- ]; do [ \"$1\" = -o ] && echo db >\"$2\"; shift; done; shift\n"
            "FAKE_SUM=" +
                applied + " exec \"$@\"");
  }
  std::string calls() const { return read_text_file(folder_ / "bundle/bin/calls"); }
  test::Run check(const std::vector<std::string>& environment = {}) {
    std::vector<std::string> all = environment;
    all.push_back("PATH=" + (folder_ / "bundle/bin").string() + ":/usr/bin:/bin");
    return run_program(
        {PRESERVE_PYTHON, folder_ / "bundle/scripts/gpu-check", "-o", folder_ / "out"}, all,
        folder_.path());
  }
  nlohmann::json summary() const {
    std::ifstream in(folder_ / "out/NVIDIA-H100-Fake-9000/summary.json");
    return nlohmann::json::parse(in);
  }
  static std::string result(const nlohmann::json& summary, const std::string& name) {
    for (const nlohmann::json& check : summary["checks"]) {
      if (check["check"] == name) return check["result"];
    }
    return "absent";
  }
  // What `check` says of each of the results, when it ends with `code`.
  using Results = std::vector<std::pair<std::string, std::string>>;
  test::Run expect(int code, const Results& results,
                   const std::vector<std::string>& environment = {}) {
    const test::Run run = check(environment);
    EXPECT_EQ(run.exit_code, code) << run.out << run.err;
    const nlohmann::json found = summary();
    for (const auto& [name, what] : results)
      EXPECT_EQ(result(found, name), what) << name << run.out;
    return run;
  }
  TemporaryDirectory folder_;
};

}  // namespace preserve::test
