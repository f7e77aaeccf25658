// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/clock_reading.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "profiler/collector/foreign_process.h"
#include "profiler/collector/ticks.h"
#include "profiler/launcher_clock.h"

namespace preserve::collector {
namespace {

// A round trip in which neither side waited takes some 10 us; one in which the launcher first had
// to get a core takes as long as a time slice, and more tries are the remedy.
constexpr int kLeastRounds = 32;
constexpr int64_t kGoodRoundNs = 16'000;
constexpr int64_t kLongestNs = 20'000'000;
constexpr int kLookMs = 2;
constexpr int64_t kSpinNs = 50'000;
// With a core for either side the answer comes soonest when both wait on it; on one core, when both
// leave it. Whichever it is, some rounds in a row are made so.
constexpr int kRoundsAlike = 8;
// The launcher answers one process after the other.
constexpr int64_t kFirstAnswerNs = 1'000'000'000;
constexpr int64_t kAnswerNs = 100'000'000;

char variable[1024] = {};  // PRESERVE_CLOCK; empty: there is none, or it is none of ours

struct Launcher {
  uint64_t token = 0;
  uint16_t port = 0;
  sockaddr_storage address{};
  socklen_t address_bytes = 0;
};

bool read_address(const char* text, uint16_t port, Launcher* launcher) {
  launcher->address = {};
  auto* four = reinterpret_cast<sockaddr_in*>(&launcher->address);
  auto* six = reinterpret_cast<sockaddr_in6*>(&launcher->address);
  if (::inet_pton(AF_INET, text, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    launcher->address_bytes = sizeof(*four);
    return true;
  }
  if (::inet_pton(AF_INET6, text, &six->sin6_addr) != 1) return false;
  six->sin6_family = AF_INET6;
  six->sin6_port = htons(port);
  launcher->address_bytes = sizeof(*six);
  return true;
}

bool ready(int socket, short events, int64_t patience_ns, bool (*stop)()) {
  const int64_t end_ns = safe_monotonic_ns() + patience_ns;
  pollfd one{socket, events, 0};
  int found = 0;
  do {
    found = ::poll(&one, 1, kLookMs);
  } while (found == 0 && !stop() && safe_monotonic_ns() < end_ns);
  return found == 1 && (one.revents & events) != 0;
}

bool say(int socket, uint64_t what) {
  return ::send(socket, &what, sizeof(what), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(what);
}

bool in_kernel(int round) {
  return (round / kRoundsAlike) % 2 == 1;
}

// One question and its answer.
bool ask(int socket, int round, int64_t patience_ns, ClockReading* reading, bool (*stop)()) {
  const int64_t spin_ns = in_kernel(round) ? -1 : kSpinNs;
  const int64_t asked_ns = safe_monotonic_ns();
  if (!say(socket, in_kernel(round + 1) ? 1 : 0)) return false;
  char answer[sizeof(int64_t)];
  size_t got = 0;
  while (got < sizeof(answer)) {
    const ssize_t more = ::recv(socket, answer + got, sizeof(answer) - got, MSG_DONTWAIT);
    if (more == 0 || (more < 0 && errno != EAGAIN && errno != EINTR)) return false;
    if (more > 0) {
      got += static_cast<size_t>(more);
      continue;
    }
    const int64_t waited_ns = safe_monotonic_ns() - asked_ns;
    if (waited_ns > spin_ns && !ready(socket, POLLIN, patience_ns - waited_ns, stop)) return false;
  }
  const int64_t answered_ns = safe_monotonic_ns();
  reading->round_trip_ns = answered_ns - asked_ns;
  reading->local_ns = asked_ns + reading->round_trip_ns / 2;
  std::memcpy(&reading->launcher_ns, answer, sizeof(answer));
  return true;
}

bool ask_often(const Launcher& launcher, ClockReading* best, bool (*stop)()) {
  const int made =
      ::socket(launcher.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0) return false;
  const int socket = move_up(made);
  const int now = 1;
  (void)::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &now, sizeof(now));
  const auto* address = reinterpret_cast<const sockaddr*>(&launcher.address);
  int error = 0;
  socklen_t error_bytes = sizeof(error);
  bool good = (::connect(socket, address, launcher.address_bytes) == 0 || errno == EINPROGRESS) &&
              ready(socket, POLLOUT, kAnswerNs, stop) &&
              ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &error_bytes) == 0 && error == 0 &&
              say(socket, launcher.token) && ask(socket, 0, kFirstAnswerNs, best, stop);
  const int64_t begun_ns = safe_monotonic_ns();
  for (int round = 1; good && !stop(); ++round) {
    ClockReading reading;
    good = ask(socket, round, kAnswerNs, &reading, stop);
    if (good && reading.round_trip_ns < best->round_trip_ns) *best = reading;
    if (round >= kLeastRounds && best->round_trip_ns <= kGoodRoundNs) break;
    if (safe_monotonic_ns() - begun_ns > kLongestNs) break;
  }
  ::close(socket);
  return good;
}

bool find_launcher(Launcher* launcher, ClockReading* reading, bool (*stop)()) {
  const char* text = variable;
  char* end = nullptr;
  launcher->token = ::strtoull(text, &end, 16);
  if (*end != '@') return false;
  const unsigned long port = ::strtoul(end + 1, &end, 10);
  if (*end != '@' || port == 0 || port > UINT16_MAX) return false;
  for (size_t i = 0; i < launcher_clock::kMostAddresses && *end != '\0' && !stop(); ++i) {
    char address[INET6_ADDRSTRLEN] = {};
    const char* begin = end + 1;
    const size_t length = std::strcspn(begin, ",");
    end = const_cast<char*>(begin) + length;
    if (length >= sizeof(address)) continue;
    std::memcpy(address, begin, length);
    if (read_address(address, static_cast<uint16_t>(port), launcher) &&
        ask_often(*launcher, reading, stop)) {
      return true;
    }
  }
  return false;
}

}  // namespace

void remember_launcher() {
  const char* text = ::getenv(launcher_clock::kVariable);
  const size_t bytes = text == nullptr ? 0 : std::strlen(text);
  if (bytes < sizeof(variable)) std::memcpy(variable, text == nullptr ? "" : text, bytes + 1);
}

bool read_launchers_clock(ClockReading* reading, bool (*stop)()) {
  static Launcher launcher;  // writer thread alone
  static enum { kUnknown, kFound, kNone } state = kUnknown;
  bool good = false;
  if (state == kUnknown) good = find_launcher(&launcher, reading, stop);
  if (state == kFound) good = ask_often(launcher, reading, stop);
  if (!stop()) state = good ? kFound : kNone;
  return good;
}

}  // namespace preserve::collector
