// SPDX-License-Identifier: Apache-2.0
#include "profiler/collector/environment.h"

#include <gtest/gtest.h>

namespace preserve {
namespace {

TEST(Environment, OnlyListedNames) {
  for (const char* name :
       {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMPI_COMM_WORLD_RANK", "PMI_RANK",
        "SLURM_PROCID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "NCCL_ALGO", "CUDA_VISIBLE_DEVICES",
        "OMPI_MCA_btl", "OMPI_MCA_coll_tuned_use_dynamic_rules", "UCX_TLS", "FI_PROVIDER"}) {
    EXPECT_TRUE(environment_name_allowed(name)) << name;
  }
  for (const char* name : {"HOME", "HF_TOKEN", "NCCL_AUTH_TOKEN", "OMP_SECRET", "SLURM_JOB_USER",
                           "", "OMPI_MCA_orte_precondition_transports", "OMPI_MCA_orte_hnp_uri"}) {
    EXPECT_FALSE(environment_name_allowed(name)) << name;
  }
}

TEST(Environment, ValuesThatLookLikeCredentials) {
  for (const char* value :
       {"hf_abcdefghijkl", "sk-1234567890", "ghp_0123456789abcdef", "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.e30.x", "0123456789abcdef0123456789abcdef",
        "user:aB3dE5fG7hI9jK1lM3nO5p@host", "http://me:pw@host:80/path", "--proxy=socks5://a:b@c",
        "https://host/?next=ftp://x:y@z"}) {
    EXPECT_TRUE(looks_like_secret(value)) << value;
  }
  for (const char* value :
       {"8", "0,1,2,3", "Ring,Tree", "mlx5_0:1,mlx5_1:1", "cores", "close,spread", "{0:4}:4:4",
        "/usr/lib/x86_64-linux-gnu", "http://host:8000/a@b:c", "tcp://me@host:1", ""}) {
    EXPECT_FALSE(looks_like_secret(value)) << value;
  }
}

TEST(Environment, ArgumentsThatNameASecret) {
  for (const char* name : {"--token", "--hf-token", "--api-key", "API_KEY", "password", "--apikey",
                           "--pass", "--pwd", "--db-pass"}) {
    EXPECT_TRUE(names_a_secret(name)) << name;
  }
  for (const char* name : {"--tokens", "--max-tokens", "--key", "--tokenizer", "--author",
                           "--passes", "--bypass", "-n", ""}) {
    EXPECT_FALSE(names_a_secret(name)) << name;
  }
}

}  // namespace
}  // namespace preserve
