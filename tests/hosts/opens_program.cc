// SPDX-License-Identifier: Apache-2.0
// opens_program MODULE ...: runs main() of a module that it opens privately, with the MPI library
// that the module needs, as Python does.
#include <dlfcn.h>

#include <cstdio>

int main(int argc, char** argv) {
  void* module = argc > 1 ? ::dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (module == nullptr) {
    std::fprintf(stderr, "%s\n", argc > 1 ? ::dlerror() : "no module");
    return 2;
  }
  const auto run = reinterpret_cast<int (*)(int, char**)>(::dlsym(module, "main"));
  return run(argc - 1, argv + 1);
}
