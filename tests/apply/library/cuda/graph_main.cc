// SPDX-License-Identifier: Apache-2.0
namespace preserve::test {
int run_graph_process(int argc, char** argv);
}

int main(int argc, char** argv) {
  return preserve::test::run_graph_process(argc, argv);
}
