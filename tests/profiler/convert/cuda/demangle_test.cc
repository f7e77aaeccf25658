// SPDX-License-Identifier: Apache-2.0
#include "profiler/convert/cuda/demangle.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cerrno>

namespace preserve::cuda {
namespace {

using testing::ElementsAre;

// a<a<a<...>, a<...>>, ...>: each level names the one before it twice.
std::string bomb(int levels) {
  std::string name = "_Z1f1aIiiE";
  std::string last = "S0_";
  for (int i = 0; i < levels; ++i) {
    name += "S_I" + last + last + "E";
    const int next = i + 1;
    last = fmt::format("S{}{}_", next >= 36 ? "1" : "",
                       "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[next % 36]);
  }
  return name;
}

TEST(Demangle, NamesReadAsTheyWereWritten) {
  EXPECT_THAT(
      demangled({"_Z11gemm_streamPK6float4mPf", "ncclDevKernel_AllReduce", "",
                 "_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_11FillFunctorIhEENS_6detail5"
                 "ArrayIPcLi1EEEEEviT0_T1_",
                 "_Zwhatever"}),
      ElementsAre(
          "gemm_stream(float4 const*, unsigned long, float*)", "ncclDevKernel_AllReduce", "",
          "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<unsigned "
          "char>, at::detail::Array<char*, 1> >(int, at::native::FillFunctor<unsigned char>, "
          "at::detail::Array<char*, 1>)",
          "_Zwhatever"));
  EXPECT_THAT(demangled({}), ElementsAre());
}

TEST(Demangle, NamesThatStandForTerabytesStayAsTheyAre) {
  const std::string one = bomb(3), endless = bomb(45);
  ASSERT_LT(endless.size(), 500U);
  const std::vector<std::string> names =
      demangled({"_Z1av", endless, "_Z1bv", endless, "_Z1cv", one});
  EXPECT_THAT(names, ElementsAre("a()", endless, "b()", endless, "c()",
                                 testing::StartsWith("f(a<int, int>, a<a<int, int>, a<int, int>")));
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "no child is left";
  EXPECT_EQ(errno, ECHILD);
}

}  // namespace
}  // namespace preserve::cuda
