// SPDX-License-Identifier: Apache-2.0
// What a program must not notice of work that takes system calls on its own threads.
#pragma once

#include <errno.h>
#include <pthread.h>

#include "common/no_copy.h"

namespace preserve {

class KeepErrno : NoCopy {
 public:
  KeepErrno() : kept_(errno) {}
  ~KeepErrno() { errno = kept_; }

 private:
  const int kept_;
};

// Also not cancelled in between: a cancelled thread would leave locks taken.
class Unnoticed {
 public:
  Unnoticed() { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state_); }
  ~Unnoticed() { pthread_setcancelstate(cancel_state_, nullptr); }

 private:
  const KeepErrno errno_;
  int cancel_state_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace preserve
