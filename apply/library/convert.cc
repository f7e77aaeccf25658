// SPDX-License-Identifier: Apache-2.0
#include "apply/library/convert.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "common/clock.h"
#include "common/no_copy.h"
#include "hooks/unnoticed.h"

namespace preserve::apply {
namespace {

constexpr int kRepeats = 15;  // of each way, in turn

// Past every tool: these calls are not the program's.
struct Library {
  decltype(&PMPI_Allreduce) allreduce = hooks::next<decltype(&PMPI_Allreduce)>("PMPI_Allreduce");
  decltype(&PMPI_Iallreduce) iallreduce =
      hooks::next<decltype(&PMPI_Iallreduce)>("PMPI_Iallreduce");
  decltype(&PMPI_Test) test = hooks::next<decltype(&PMPI_Test)>("PMPI_Test");
  decltype(&PMPI_Comm_split) split = hooks::next<decltype(&PMPI_Comm_split)>("PMPI_Comm_split");
  decltype(&PMPI_Comm_free) free = hooks::next<decltype(&PMPI_Comm_free)>("PMPI_Comm_free");
  decltype(&PMPI_Barrier) barrier = hooks::next<decltype(&PMPI_Barrier)>("PMPI_Barrier");
  // Those of MPICH are numbers, which its binary interface fixes.
  MPI_Datatype of_int = object<MPI_Datatype>("ompi_mpi_int", 0x4c000405);
  MPI_Datatype of_double = object<MPI_Datatype>("ompi_mpi_double", 0x4c00080b);
  MPI_Op most = object<MPI_Op>("ompi_mpi_op_max", 0x58000001),
         least = object<MPI_Op>("ompi_mpi_op_min", 0x58000002),
         sum = object<MPI_Op>("ompi_mpi_op_sum", 0x58000003),
         product = object<MPI_Op>("ompi_mpi_op_prod", 0x58000004),
         least_at = object<MPI_Op>("ompi_mpi_op_minloc", 0x5800000b),
         most_at = object<MPI_Op>("ompi_mpi_op_maxloc", 0x5800000c);
  const void* in_place =
      hooks::handles_are_numbers() ? reinterpret_cast<const void*>(intptr_t{-1}) : MPI_IN_PLACE;
  MPI_Status* ignored =
      hooks::handles_are_numbers() ? reinterpret_cast<MPI_Status*>(intptr_t{1}) : MPI_STATUS_IGNORE;

  bool complete() const {
    return allreduce != nullptr && iallreduce != nullptr && test != nullptr && split != nullptr &&
           free != nullptr && barrier != nullptr && of_int != nullptr && of_double != nullptr &&
           sum != nullptr && product != nullptr && least != nullptr && most != nullptr;
  }
  bool is_basic(MPI_Op op) const {
    return op != nullptr && (op == sum || op == product || op == least || op == most ||
                             op == least_at || op == most_at);
  }

 private:
  template <typename Handle>
  static Handle object(const char* name, uintptr_t number) {
    return hooks::handles_are_numbers() ? reinterpret_cast<Handle>(number)
                                        : static_cast<Handle>(hooks::library_object(name));
  }
};
const Library& library() {
  static const Library found;
  return found;
}

// Without holes, and any bits are a value but those of special numbers.
bool is_basic(MPI_Datatype type) {
  char name[MPI_MAX_OBJECT_NAME];
  const std::string_view text{name, hooks::type_name(type, name, sizeof(name))};
  constexpr std::string_view kBasic[] = {
      "MPI_FLOAT",         "MPI_DOUBLE",        "MPI_INT",       "MPI_LONG",     "MPI_UNSIGNED",
      "MPI_UNSIGNED_LONG", "MPI_INT32_T",       "MPI_INT64_T",   "MPI_UINT32_T", "MPI_UINT64_T",
      "MPI_LONG_LONG",     "MPI_LONG_LONG_INT", "MPI_FLOAT_INT", "MPI_2INT"};
  return std::find(std::begin(kBasic), std::end(kBasic), text) != std::end(kBasic);
}
bool is_double(MPI_Datatype type) {
  char name[MPI_MAX_OBJECT_NAME];
  return std::string_view(name, hooks::type_name(type, name, sizeof(name))) == "MPI_DOUBLE";
}

// Numbers between 1/256 and 2, of either sign, when they are floats; all bits of the fraction are
// random.
void fill(std::byte* data, size_t bytes, bool doubles, uint64_t seed) {
  const auto next = [&seed] {
    seed += 0x9e3779b97f4a7c15;  // splitmix64
    uint64_t x = seed;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  };
  const size_t step = doubles ? 8 : 4;
  for (size_t at = 0; at + step <= bytes; at += step) {
    const uint64_t random = next();
    if (doubles) {
      const uint64_t word = (random & 0x800fffffffffffffULL) | (1023 - (random >> 52 & 7)) << 52;
      std::memcpy(data + at, &word, sizeof(word));
    } else {
      const auto word =
          static_cast<uint32_t>((random & 0x807fffffULL) | (127 - (random >> 32 & 7)) << 23);
      std::memcpy(data + at, &word, sizeof(word));
    }
  }
}

// Not through the program's mmap, whose mappings are counted.
class Memory : NoCopy {
 public:
  explicit Memory(size_t bytes)
      : bytes_(bytes),
        at_(reinterpret_cast<void*>(::syscall(SYS_mmap, nullptr, bytes, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0))) {
  }
  ~Memory() {
    if (at_ != MAP_FAILED) ::syscall(SYS_munmap, at_, bytes_);
  }
  std::byte* get() const { return at_ == MAP_FAILED ? nullptr : static_cast<std::byte*>(at_); }

 private:
  const size_t bytes_;
  void* const at_;
};

double median(double (&values)[kRepeats]) {
  std::sort(std::begin(values), std::end(values));
  return values[kRepeats / 2];
}

}  // namespace

bool Conversion::is_noted(const Kind& kind) const {
  return std::find(kinds_, kinds_ + noted_, kind) != kinds_ + noted_;
}

void Conversion::note(const mpi::Allreduce& call) {
  const Kind kind{call.count, hooks::plain(call.type), hooks::plain(call.op),
                  hooks::is_in_place(call.send)};
  if (is_noted(kind)) return;
  if (noted_ == kMost || !library().complete() || !is_basic(kind.type) ||
      !library().is_basic(kind.op)) {
    return;
  }
  kinds_[noted_++] = kind;
}

// What differs between the ranks (memory that one of them cannot get, say) must keep none of them
// from a collective that the others enter.
Session::Probed Conversion::probe(MPI_Comm comm, bool has_progress) {
  const Unnoticed unnoticed;
  Session::Probed found;
  found.kinds = noted_;
  if (!library().complete()) return found;  // all ranks have the same library
  MPI_Comm own{};
  if (library().split(comm, 0, 0, &own) != MPI_SUCCESS) return found;
  int64_t bytes = 64;
  for (int i = 0; i < noted_; ++i) {
    bytes = std::max(bytes, hooks::message_bytes(kinds_[i].count, kinds_[i].type));
  }
  const Memory memory(static_cast<size_t>(bytes) * 3);
  int mine[2] = {memory.get() != nullptr ? 1 : 0, has_progress ? 1 : 0};
  int all[2] = {};
  bool works =
      library().allreduce(mine, all, 2, library().of_int, library().least, own) == MPI_SUCCESS;
  found.progress = works && all[1] != 0;
  int same = noted_ > 0 ? 1 : 0;
  for (int i = 0; works && all[0] != 0 && i < noted_; ++i) {
    const Kind& kind = kinds_[i];
    std::byte* const given = memory.get();
    std::byte *const blocking = given + bytes, *const converted = given + 2 * bytes;
    const auto used = static_cast<size_t>(hooks::message_bytes(kind.count, kind.type));
    fill(given, used, is_double(kind.type),
         static_cast<uint64_t>(hooks::communicator_rank(own)) << 32 | static_cast<uint32_t>(i));
    double blocking_ns[kRepeats], converted_ns[kRepeats];
    for (int repeat = 0; works && repeat < kRepeats; ++repeat) {
      for (std::byte* result : {blocking, converted}) {
        const void* send = given;
        if (kind.in_place) {
          std::memcpy(result, given, used);
          send = library().in_place;
        }
        works = works && library().barrier(own) == MPI_SUCCESS;
        const int64_t begin_ns = monotonic_ns();
        if (result == blocking) {
          works = works && library().allreduce(send, result, kind.count, kind.type, kind.op, own) ==
                               MPI_SUCCESS;
          blocking_ns[repeat] = static_cast<double>(monotonic_ns() - begin_ns);
        } else {
          MPI_Request request{};
          int done = 0;
          works = works && library().iallreduce(send, result, kind.count, kind.type, kind.op, own,
                                                &request) == MPI_SUCCESS;
          while (works && done == 0) {
            works = library().test(&request, &done, library().ignored) == MPI_SUCCESS;
          }
          converted_ns[repeat] = static_cast<double>(monotonic_ns() - begin_ns);
        }
      }
      if (!works || std::memcmp(blocking, converted, used) != 0) same = 0;
    }
    found.blocking_ns += median(blocking_ns);
    found.converted_ns += median(converted_ns);
  }
  int same_everywhere = 0;
  double times_ns[2] = {found.blocking_ns, found.converted_ns};
  double slowest_ns[2] = {};
  works = works && all[0] != 0;
  if (library().allreduce(&same, &same_everywhere, 1, library().of_int, library().least, own) ==
          MPI_SUCCESS &&
      library().allreduce(times_ns, slowest_ns, 2, library().of_double, library().most, own) ==
          MPI_SUCCESS) {
    found.same_bits = works && same_everywhere != 0;
    found.blocking_ns = slowest_ns[0];
    found.converted_ns = slowest_ns[1];
  }
  (void)library().free(&own);
  return found;
}

int Conversion::run(const mpi::Allreduce& call, Session& session) const {
  if (!is_noted({call.count, hooks::plain(call.type), hooks::plain(call.op),
                 hooks::is_in_place(call.send)}))
    return call.run();
  MPI_Request request{};
  if (library().iallreduce(call.send, call.receive, call.count, call.type, call.op, call.comm,
                           &request) != MPI_SUCCESS) {
    session.failed();
    return call.run();
  }
  for (int done = 0; done == 0;) {
    Session::turn();
    const int code = library().test(&request, &done, library().ignored);
    if (code == MPI_SUCCESS) continue;
    session.failed();
    return code;
  }
  return MPI_SUCCESS;
}

}  // namespace preserve::apply
