// SPDX-License-Identifier: Apache-2.0
#include "common/output_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>

#include "common/error.h"
#include "common/units.h"

namespace preserve {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMostTextBytes = size_t{256} << 20;  // a stream without an end is none

uint64_t random_bits() {
  uint64_t bits = 0;
  if (::getrandom(&bits, sizeof bits, 0) != static_cast<ssize_t>(sizeof bits)) {
    throw internal_error("the system gives no random numbers: {}", std::strerror(errno));
  }
  return bits;
}

}  // namespace

OutputFile::OutputFile(fs::path path, bool force) : path_(std::move(path)), force_(force) {
  if (path_.empty()) throw usage_error("the output file has an empty name");
  if (is_stdout()) return;
  std::error_code error;
  const fs::file_status status = fs::status(path_, error);
  if (fs::is_directory(status)) {
    throw usage_error("cannot write {}: it is a directory", path_.string());
  }
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw usage_error("cannot write {}: it is not a regular file", path_.string());
  }
  // A link to nothing is there too: commit() would find its name taken, after all the work.
  if (fs::exists(fs::symlink_status(path_, error)) && !force) {
    throw usage_error("{} exists already: choose another name or pass -f to overwrite it",
                      path_.string());
  }
  const fs::path folder = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
  // A name that others cannot predict: in a folder that others may write to, they could have put a
  // link to another file there.
  temporary_ = folder / fmt::format(".{}.{:016x}.part", path_.filename().string(), random_bits());
  // Creating the temporary is the only check of writability that does not lie (ACLs, read-only
  // mounts, full disks); access(2) as root always says yes.
  const int fd = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) {
    const int code = errno;
    throw usage_error("cannot write {}: {}", path_.string(), std::strerror(code));
  }
  ::close(fd);
  ::unlink(temporary_.c_str());
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      force_(other.force_),
      committed_(other.committed_) {
  other.committed_ = true;
}

OutputFile::~OutputFile() {
  if (committed_ || temporary_.empty()) return;
  std::error_code ignored;  // nothing useful can be done in a destructor
  fs::remove(temporary_, ignored);
}

void OutputFile::write(std::string_view text) {
  if (is_stdout()) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
        std::fflush(stdout) != 0) {
      throw input_error("cannot write to standard output: {}", std::strerror(errno));
    }
    committed_ = true;
    return;
  }
  {
    ::signal(SIGXFSZ, SIG_IGN);  // a file that gets too long fails, and can be spoken of
    std::ofstream out(temporary_, std::ios::binary | std::ios::trunc);
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    out.close();
    if (!out) throw input_error("cannot write {}: {}", path_.string(), std::strerror(errno));
  }
  commit();
}

void OutputFile::commit() {
  if (is_stdout()) return;
  // Without -f, link(2) refuses a name that appeared while we worked; rename(2) would replace it.
  if (!force_ && ::link(temporary_.c_str(), path_.c_str()) == 0) {
    ::unlink(temporary_.c_str());
  } else if (!force_ && errno == EEXIST) {
    throw input_error(
        "{} was created by another process meanwhile and is kept; choose another output or use "
        "--force",
        path_.string());
  } else if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw input_error("cannot write {}: {}", path_.string(), std::strerror(errno));
  }
  committed_ = true;
}

void refuse_input_as_output(const fs::path& output, const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs) {
    if (!input.empty() && ::access(input.c_str(), R_OK) != 0) {
      throw input_error("cannot read {}: {}", input, std::strerror(errno));
    }
    std::error_code ignored;  // a file that does not exist cannot be an input
    if (fs::equivalent(output, input, ignored)) {
      throw usage_error("{} is an input: choose another name for the output", output.string());
    }
  }
}

std::string read_text_file(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    throw input_error("cannot read {}: it is a directory", path.string());
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) throw input_error("cannot read {}: {}", path.string(), std::strerror(errno));
  std::string text;
  std::vector<char> part(1 << 18);
  while (in.read(part.data(), static_cast<std::streamsize>(part.size())) || in.gcount() > 0) {
    text.append(part.data(), static_cast<size_t>(in.gcount()));
    if (text.size() > kMostTextBytes) {
      throw input_error("cannot read {}: it is larger than {}", path.string(),
                        format_size(kMostTextBytes));
    }
  }
  if (in.bad()) throw input_error("cannot read {}: {}", path.string(), std::strerror(errno));
  return text;
}

std::string sha256_of_file(const fs::path& path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (!in) throw input_error("cannot read {}: {}", path.string(), std::strerror(errno));
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> digest(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!digest || EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr) != 1) {
    throw internal_error("SHA-256 is not available in OpenSSL");
  }
  std::vector<char> buffer(1 << 18);
  size_t count = 0;
  while ((count = std::fread(buffer.data(), 1, buffer.size(), in.get())) > 0) {
    EVP_DigestUpdate(digest.get(), buffer.data(), count);
  }
  if (std::ferror(in.get())) {
    throw input_error("cannot read {}: {}", path.string(), std::strerror(errno));
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned size = 0;
  EVP_DigestFinal_ex(digest.get(), bytes.data(), &size);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

}  // namespace preserve
