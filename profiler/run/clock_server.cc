// SPDX-License-Identifier: Apache-2.0
#include "profiler/run/clock_server.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "common/clock.h"
#include "common/error.h"
#include "profiler/launcher_clock.h"

namespace preserve {
namespace {

constexpr int kLookMs = 50;  // whether the recording has ended
constexpr int64_t kSpinNs = 50'000;
constexpr int64_t kMostNs = 200'000'000;  // for one process: others wait

// Numbers under which other hosts, or this one, may reach us.
std::vector<std::string> own_addresses(bool six_too) {
  std::vector<std::string> addresses{"127.0.0.1"};
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return addresses;
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || (each->ifa_flags & IFF_UP) == 0) continue;
    if ((each->ifa_flags & IFF_LOOPBACK) != 0) continue;
    char text[INET6_ADDRSTRLEN] = {};
    if (each->ifa_addr->sa_family == AF_INET) {
      const auto* four = reinterpret_cast<const sockaddr_in*>(each->ifa_addr);
      (void)::inet_ntop(AF_INET, &four->sin_addr, text, sizeof(text));
    } else if (six_too && each->ifa_addr->sa_family == AF_INET6) {
      const auto* six = reinterpret_cast<const sockaddr_in6*>(each->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr)) continue;  // needs an interface's name
      (void)::inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof(text));
    }
    if (text[0] != '\0' && addresses.size() < launcher_clock::kMostAddresses) {
      addresses.emplace_back(text);
    }
  }
  ::freeifaddrs(list);
  return addresses;
}

std::optional<uint64_t> receive(int connection, int64_t patience_ns, int64_t spin_ns) {
  const int64_t begun_ns = monotonic_ns();
  char bytes[sizeof(uint64_t)];
  size_t got = 0;
  while (got < sizeof(bytes)) {
    const ssize_t more = ::recv(connection, bytes + got, sizeof(bytes) - got, MSG_DONTWAIT);
    if (more == 0 || (more < 0 && errno != EAGAIN && errno != EINTR)) return std::nullopt;
    if (more > 0) {
      got += static_cast<size_t>(more);
      continue;
    }
    const int64_t waited_ns = monotonic_ns() - begun_ns;
    if (waited_ns > patience_ns) return std::nullopt;
    pollfd one{connection, POLLIN, 0};
    if (waited_ns > spin_ns) (void)::poll(&one, 1, 1);
  }
  uint64_t value = 0;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

}  // namespace

ClockServer::ClockServer() {
  if (::getrandom(&token_, sizeof(token_), 0) != sizeof(token_)) {
    throw input_error("no random number to be had: {}", std::strerror(errno));
  }
  listen_on_all_addresses();
  thread_ = std::thread([this] { answer_all(); });
}

ClockServer::~ClockServer() {
  ending_.store(true);
  thread_.join();
  ::close(listener_);
}

void ClockServer::listen_on_all_addresses() {
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  sockaddr_in four{};
  four.sin_family = AF_INET;
  constexpr int kFlags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  listener_ = ::socket(AF_INET6, kFlags, 0);
  const int no = 0;
  bool good = listener_ >= 0 &&
              ::setsockopt(listener_, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)) == 0 &&
              ::bind(listener_, reinterpret_cast<const sockaddr*>(&six), sizeof(six)) == 0;
  const bool both = good;
  if (!good) {  // a host without IPv6
    if (listener_ >= 0) ::close(listener_);
    listener_ = ::socket(AF_INET, kFlags, 0);
    good = listener_ >= 0 &&
           ::bind(listener_, reinterpret_cast<const sockaddr*>(&four), sizeof(four)) == 0;
  }
  sockaddr_storage bound{};
  socklen_t bytes = sizeof(bound);
  if (!good || ::listen(listener_, SOMAXCONN) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&bound), &bytes) != 0) {
    const int error = errno;
    if (listener_ >= 0) ::close(listener_);
    throw input_error("no TCP port to be had: {}", std::strerror(error));
  }
  port_ = ntohs(both ? reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port
                     : reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
  variable_ = fmt::format("{:x}@{}@{}", token_, port_, fmt::join(own_addresses(both), ","));
}

void ClockServer::answer_all() {
  while (!ending_.load()) {
    pollfd one{listener_, POLLIN, 0};
    if (::poll(&one, 1, kLookMs) <= 0) continue;
    const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection < 0) {  // no descriptor left: there may be one soon
      ::usleep(1000);
      continue;
    }
    answer(connection);
    ::close(connection);
  }
}

void ClockServer::answer(int connection) const {
  const int now = 1;
  (void)::setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &now, sizeof(now));
  constexpr int64_t kPatienceNs = launcher_clock::kPatienceMs * int64_t{1'000'000};
  const int64_t end_ns = monotonic_ns() + kMostNs;
  if (receive(connection, kPatienceNs, -1) != token_) return;
  std::optional<uint64_t> question = 0;
  while (monotonic_ns() < end_ns) {
    question = receive(connection, kPatienceNs, *question == 0 ? kSpinNs : -1);
    if (!question) return;
    const int64_t answer_ns = monotonic_ns();
    if (::send(connection, &answer_ns, sizeof(answer_ns), MSG_NOSIGNAL | MSG_DONTWAIT) !=
        sizeof(answer_ns)) {
      return;
    }
  }
}

}  // namespace preserve
