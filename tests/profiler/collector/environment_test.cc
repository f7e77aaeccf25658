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
        "https://host/?next=ftp://x:y@z", "abcdefghij0123456789abcdefghijkl",
        "ABCDEFGHIJ0123456789ABCDEFGHIJKL", "xai-aB3dE5fG7hI9jK1lM3nO5p",
        "pplx-0123456789abcdef0123456789abcdef", "secret_aB3dE5fG7hI9jK1lM3nO5p"}) {
    EXPECT_TRUE(looks_like_secret(value)) << value;
  }
  for (const char* value :
       {"8", "0,1,2,3", "Ring,Tree", "mlx5_0:1,mlx5_1:1", "cores", "close,spread", "{0:4}:4:4",
        "/usr/lib/x86_64-linux-gnu", "http://host:8000/a@b:c", "tcp://me@host:1", ""}) {
    EXPECT_FALSE(looks_like_secret(value)) << value;
  }
}

TEST(Environment, ArgumentsThatNameASecret) {
  for (const char* name :
       {"--token", "--hf-token",     "--api-key",    "API_KEY",   "password",    "--apikey",
        "--pass",  "--pwd",          "--db-pass",    "--hfToken", "authToken",   "APIKey",
        "--key",   "HAuthorization", "--dbpassword", "storepass", "--otp",       "token2",
        "-Dkey",   "-Dauth",         "-Dpin1",       "-Dauth-x",  "-Ddbpassword"}) {
    EXPECT_TRUE(names_a_secret(name)) << name;
  }
  for (const char* name :
       {"--tokens", "--max-tokens", "--key-value", "--tokenizer", "--author", "--passes",
        "--bypass", "-bypass", "-compass", "-trespass", "-spin", "-bypass2", "-n", ""}) {
    EXPECT_FALSE(names_a_secret(name)) << name;
  }
}

TEST(Environment, WhatIsShownOfAnArgument) {
  // "S" and what follows it is the secret.
  for (const std::string_view argument : {"--authToken=S3",
                                          "--env=HF_TOKEN=S3",
                                          "Authorization: Bearer S3",
                                          "--header=X-Auth-Token: S3",
                                          "-HAuthorization: Basic S3",
                                          R"(--config={"api_key":"S3"})",
                                          R"({"a": 1, "password": "S3"})",
                                          "--user=admin:S3",
                                          "-uadmin:S3",
                                          "-pS3",
                                          "-p=S3",
                                          "password:S3",
                                          "/token:S3",
                                          "--key=S3",
                                          "https://S3@github.com/x",
                                          "postgres://me:S3@host/db",
                                          "https://host/x?a=1&access_token=S3",
                                          "https://host/x?sig=S3",
                                          "Cookie: sid=S3",
                                          "--set=auth.token=S3",
                                          "me:S3@host",
                                          "--proxy=me:S3@proxy:80",
                                          "AccountKey=S3;x=1",
                                          "Server=h;Pwd=S3;",
                                          "run --token S3",
                                          "mysql -u me -pS3",
                                          "export TOKEN=S3; run",
                                          "--x=hf_S3cr3t",
                                          "a,ghp_S3cr3t",
                                          "Bearer S3cret",
                                          "me:S3/a@host",
                                          "me:S3=a@host",
                                          "me:S3,a@host",
                                          "me:S3;a b'c@host",
                                          "--proxy=me:S3/=,;@proxy:80",
                                          "--redis=:S3@host",
                                          ":S3/x@host",
                                          "https://me:S3/a@host",
                                          "https://host:80/ me:S3,a@other",
                                          "-Dkey=S3",
                                          "-Dauth=S3",
                                          "--api-keys=S3,S4",
                                          "<password>S3</password>",
                                          "password%3DS3",
                                          "login me password S3",
                                          "HF_TOKEN S3",
                                          "--x=sk_test_S3xxx",
                                          "AGE-SECRET-KEY-S3xxx"}) {
    EXPECT_LE(shown_bytes(argument), argument.find("S3")) << argument;
  }
  for (const std::string_view argument : {"--max-tokens=128",
                                          "--tokenizer=gpt2",
                                          "--path=/a/b",
                                          "--model=Llama-3-8B",
                                          "--user=admin",
                                          "--author=x:y",
                                          "tcp://me@host:1",
                                          "https://host:80/a",
                                          "--size=4:2",
                                          "user@host",
                                          "",
                                          "-n",
                                          "--key-value=3",
                                          "--parallel=8",
                                          "https://host:80/a@b",
                                          "https://host:80/a@b:c",
                                          "{\"mail\": \"me@host\"}",
                                          "pkg@1.2:3",
                                          "--model=xai-org/grok-1",
                                          "pplx-7b-chat",
                                          "--data=secret_santa.txt",
                                          "-bypass=1",
                                          "-spin=3"}) {
    EXPECT_EQ(shown_bytes(argument), argument.size()) << argument;
  }
}

TEST(Environment, WhatTheNextArgumentIs) {
  for (const char* argument : {"--token", "-p", "Bearer", "Authorization:", "--db-pass=",
                               "password", "-password", "-passphrase", "-private-key"}) {
    EXPECT_EQ(next_argument(argument), Next::secret) << argument;
  }
  EXPECT_EQ(next_argument("--user"), Next::user);
  EXPECT_EQ(next_argument("-u"), Next::user);
  for (const char* argument : {"--token=x", "--max-tokens", "-n", "", "--user=x", "-H"}) {
    EXPECT_EQ(next_argument(argument), Next::any) << argument;
  }
}

}  // namespace
}  // namespace preserve
