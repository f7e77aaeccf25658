// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "db/trace_db.h"

namespace preserve::test {

// Of a process of its own.
inline StreamId add_stream(TraceDb& db, StreamKind kind = StreamKind::thread) {
  return db.add(StreamRow{.process = db.add(ProcessRow{.host = "h", .pid = 1}), .kind = kind});
}

}  // namespace preserve::test
