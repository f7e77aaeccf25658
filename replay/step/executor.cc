// SPDX-License-Identifier: Apache-2.0
#include "replay/step/executor.h"

#include "common/error.h"

namespace preserve {

ArmSample Executor::run(size_t arm, int steps) {
  if (arm >= arms().size() || steps < 1) throw internal_error("no arm {} to run", arm);
  const ArmSample sample = do_run(arm, steps);
  if (!checksum_) checksum_ = sample.checksum;
  if (sample.checksum != *checksum_) {
    throw internal_error(
        "arm {} consumed other bytes than the arms before it (checksum {:016x}, not "
        "{:016x})",
        arms()[arm], sample.checksum, *checksum_);
  }
  return sample;
}

}  // namespace preserve
