// SPDX-License-Identifier: Apache-2.0
#include "replay/step/transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/synthetic_trace.h"

namespace preserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class TransportTest : public testing::Test {
 protected:
  TransportTest() { ::unsetenv("OMPI_MCA_btl"); }
  ~TransportTest() override { ::unsetenv("OMPI_MCA_btl"); }

  Transport compare(const std::vector<std::pair<std::string, std::string>>& recorded,
                    const std::vector<std::string>& mpirun_options = {}) {
    const auto path = directory_ / "trace.db";
    test::write_synthetic_trace(path, {}, [&](TraceDb& db) {
      const auto rank0 = db.query_integer("SELECT id FROM process WHERE rank = 0");
      for (const auto& [name, value] : recorded) {
        db.add_env(static_cast<ProcessId>(*rank0), name, value);
      }
      db.set_meta("mpi_library", "Open MPI v9.9.9");
    });
    return compare_transport(TraceDb::open(path), 0, mpirun_options);
  }

  test::TemporaryDirectory directory_;
};

TEST_F(TransportTest, WhatIsNotSetHereIsTakenOver) {
  const Transport found =
      compare({{"OMPI_MCA_btl", "self,tcp"}, {"UCX_TLS", "tcp"}, {"OMP_NUM_THREADS", "1"}});
  EXPECT_THAT(found.missing, ElementsAre("OMPI_MCA_btl=self,tcp", "UCX_TLS=tcp"));
  EXPECT_THAT(found.warnings, IsEmpty());
}

TEST_F(TransportTest, WhatIsSetHereStaysAndADifferenceIsSaid) {
  ::setenv("OMPI_MCA_btl", "self,vader", 1);
  const Transport found = compare({{"OMPI_MCA_btl", "self,tcp"}});
  EXPECT_THAT(found.missing, IsEmpty());
  EXPECT_THAT(found.warnings, ElementsAre(HasSubstr("OMPI_MCA_btl is self,vader here")));
  ::setenv("OMPI_MCA_btl", "self,tcp", 1);
  EXPECT_THAT(compare({{"OMPI_MCA_btl", "self,tcp"}}).warnings, IsEmpty());
}

TEST_F(TransportTest, OptionsForMpirunAreWhatCounts) {
  const Transport found = compare(
      {{"OMPI_MCA_btl", "self,tcp"}, {"UCX_TLS", "tcp"}},
      {"--mca", "btl", "self,vader", "-x", "UCX_TLS=tcp", "--mca", "plm_base_verbose", "1"});
  EXPECT_THAT(found.missing, IsEmpty());
  EXPECT_THAT(found.warnings,
              ElementsAre(HasSubstr("OMPI_MCA_btl is self,vader here, it was self,tcp")));
}

TEST_F(TransportTest, WhatOnlyThisMachineSetsIsSaid) {
  ::setenv("OMPI_MCA_btl", "self,vader", 1);
  EXPECT_THAT(compare({{"OMP_NUM_THREADS", "1"}}).warnings,
              ElementsAre(HasSubstr("OMPI_MCA_btl is self,vader here, it was not set")));
  EXPECT_THAT(compare({}).warnings, IsEmpty())
      << "a recording without its environment says nothing";
}

TEST_F(TransportTest, WhatMpirunSetsItselfIsNotCompared) {
  const Transport found =
      compare({{"OMPI_MCA_mpi_oversubscribe", "1"}, {"PSM2_DEVICES", "self,shm"}});
  EXPECT_THAT(found.missing, IsEmpty());
  EXPECT_THAT(found.warnings, IsEmpty());
}

// A trace.db comes from anywhere; these make an MPI library load or write files.
TEST_F(TransportTest, ARecordingChoosesNoFiles) {
  for (const auto& [name, value] : {std::pair("UCX_MODULE_DIR", "here"),
                                    {"FI_PROVIDER_PATH", "here"},
                                    {"UCX_TLS", "/tmp/x"},
                                    {"UCX_TLS", "a b"},
                                    {"OMPI_MCA_btl", "x\ny"}}) {
    const Transport found = compare({{name, value}});
    EXPECT_THAT(found.missing, IsEmpty()) << name;
    EXPECT_THAT(found.warnings, ElementsAre(HasSubstr(name)));
  }
}

TEST_F(TransportTest, AnotherLibraryIsSaid) {
  compare({});
  const TraceDb db = TraceDb::open(directory_ / "trace.db");
  EXPECT_THAT(other_mpi_library(db, "Open MPI v4.1.4"),
              HasSubstr("recorded with Open MPI v9.9.9, replayed with Open MPI v4.1.4"));
  EXPECT_THAT(other_mpi_library(db, "Open MPI v9.9.9"), IsEmpty());
}

}  // namespace
}  // namespace preserve
