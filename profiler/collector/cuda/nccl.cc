// SPDX-License-Identifier: Apache-2.0
// What NCCL's profiler interface reports, as spool records on the calling thread.
#include "hooks/listener.h"
#include "profiler/collector/cuda/thread_record.h"

namespace preserve {
namespace {

using namespace cuda;

// Function, type, algorithm and protocol one after another, each ended by NUL.
class Words {
 public:
  void add(const char* word) {
    const size_t bytes = word == nullptr ? 0 : ::strnlen(word, 60);
    if (bytes > 0) std::memcpy(text_ + size_, word, bytes);
    size_ += bytes;
    text_[size_++] = '\0';
  }
  std::string_view text() const { return {text_, size_}; }

 private:
  char text_[4 * 61] = {};
  size_t size_ = 0;
};

}  // namespace

bool listener::nccl_wanted() {
  return collector::recording_wanted();
}

void listener::nccl_communicator(const nccl::Communicator& communicator) {
  const CommunicatorBody body{communicator.id, static_cast<uint32_t>(communicator.ranks),
                              static_cast<uint32_t>(communicator.rank),
                              static_cast<uint32_t>(communicator.nodes), 0};
  record_on_thread(RecordType::communicator, body, communicator.name);
}

void listener::nccl_call(const nccl::Call& call) {
  Words words;
  words.add(call.function);
  words.add(call.datatype);
  if (!call.point_to_point) {
    words.add(call.algorithm);
    words.add(call.protocol);
  }
  CollectiveBody body{};
  body.communicator = call.communicator;
  body.sequence = call.point_to_point ? kNoSequence : call.sequence;
  body.count = call.count;
  body.send = reinterpret_cast<uintptr_t>(call.send);
  body.receive = reinterpret_cast<uintptr_t>(call.receive);
  body.peer = call.peer;
  body.point_to_point = call.point_to_point;
  body.channels = call.channels;
  body.interface_version = call.interface_version;
  record_on_thread(RecordType::collective, body, words.text());
}

}  // namespace preserve
