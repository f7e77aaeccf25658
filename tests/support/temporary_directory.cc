// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "common/error.h"
#include "tests/support/synthetic_trace.h"

namespace preserve::test {

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "preserve-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw internal_error("cannot make {}", name);
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;  // a destructor can only leave the rest to the system's cleaning
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace preserve::test
