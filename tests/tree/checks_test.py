#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The checks of this folder on made-up trees."""
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import check_layout
import check_words


class MadeUpTree(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("docs/data-flow.md", " ".join(f"`{room}/`" for room in check_layout.ROOMS))
        self.write("common/clock.h", "#include <time.h>\n")
        self.write("common/error.h", "")
        self.write("common/text.h", "")
        self.write("common/text.cc", '#include "common/text.h"\n')
        self.write("db/trace_db.h", '#include "common/text.h"\n')
        self.write("planner/schedule/schedule.h", '#include "db/trace_db.h"\n')
        self.write("profiler/spool.h", "")
        self.write("profiler/collector/recorder.h", '#include "profiler/spool.h"\n#include "hooks/listener.h"\n')
        self.write("hooks/listener.h", '#include "common/clock.h"\n')

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)


class Layout(MadeUpTree):
    def only_finding(self):
        findings = check_layout.check(self.root)
        self.assertEqual(len(findings), 1, findings)
        return findings[0]

    def test_accepts_arrows_in_the_right_direction(self):
        self.write("replay/cpu/fetch.cc", '#include "planner/schedule/schedule.h"\n#include <vector>\n')
        self.write("docs/data-flow.md", (self.root / "docs/data-flow.md").read_text() + "`replay/cpu/`")
        self.assertEqual(check_layout.check(self.root), [])

    def test_finds_each_forbidden_arrow(self):
        self.write("planner/search/plan.h", "")
        self.write("planner/workload/config.h", "")
        self.write("replay/measure/measure.h", "")
        self.write("profiler/import/kineto.h", "")
        self.write("profiler/convert/reader.h", "")
        for includer, target in [
            ("common/text.cc", "db/trace_db.h"),
            ("db/trace_db.h", "planner/schedule/schedule.h"),
            ("replay/replay.cc", "planner/search/plan.h"),
            ("replay/step/program.cc", "replay/measure/measure.h"),
            ("reports/report.cc", "planner/workload/config.h"),
            ("planner/search/plan.cc", "planner/workload/config.h"),
            ("planner/problem/graph.cc", "planner/search/plan.h"),
            ("hooks/nvtx.cc", "profiler/spool.h"),
            ("hooks/nvtx.cc", "common/text.h"),
            ("hooks/nvtx.cc", "common/error.h"),
            ("profiler/collector/recorder.cc", "db/trace_db.h"),
            ("profiler/convert/reader.cc", "profiler/collector/recorder.h"),
            ("profiler/convert/reader.cc", "profiler/import/kineto.h"),
            ("profiler/import/kineto.cc", "profiler/convert/reader.h"),
            ("profiler/gpu/join.cc", "profiler/import/kineto.h"),
            ("examples/program.cc", "common/clock.h"),
        ]:
            with self.subTest(includer=includer, target=target):
                path = self.root / includer
                before = path.read_text() if path.exists() else None
                self.write(includer, f'\n#include "{target}"\n')
                finding = self.only_finding()
                self.assertIn(f"{includer}:2: ", finding)
                self.assertIn(target, finding)
                path.unlink() if before is None else path.write_text(before)

    def test_follows_a_header_of_common_to_what_it_includes(self):
        self.write("common/clock.h", '#include "common/text.h"\n')
        self.assertIn("hooks/listener.h:1: ", self.only_finding())

    def test_wants_a_room_for_every_folder(self):
        self.write("advice/advice.cc", "")
        self.write("docs/data-flow.md", (self.root / "docs/data-flow.md").read_text() + "`advice/`")
        self.assertIn("advice/advice.cc: ", self.only_finding())

    def test_wants_the_path_from_the_root(self):
        self.write("db/trace_db.cc", '#include "trace_db.h"\n')
        self.assertIn('"db/trace_db.h"', self.only_finding())

    def test_wants_a_sentence_about_every_folder(self):
        self.write("replay/new_room/fetch.cc", "")
        self.assertIn("`replay/new_room/`", self.only_finding())

    def test_finds_a_file_that_is_too_long(self):
        self.write("db/trace_db.cc", "\n" * 500)
        self.assertEqual(check_layout.check(self.root), [])
        self.write("db/trace_db.cc", "\n" * 501)
        self.assertIn("501 lines", self.only_finding())

    def test_leaves_build_folders_alone(self):
        self.write("build-asan/generated.cc", "\n" * 501)
        self.assertEqual(check_layout.check(self.root), [])


class Words(MadeUpTree):
    def test_finds_words_in_sources_docs_and_scripts(self):
        self.write("db/a.cc", "// as foretold\n")
        self.write("docs/a.md", "\nIt is not here.\n")
        self.write("scripts/a", "echo beyond doubt\n")
        self.write("README.md", "It stands for hardware.\nThe program has the last word.\nThe tools are not there.\n")
        self.assertEqual([finding.split(": ")[0] for finding in check_words.check(self.root)],
                         ["README.md:1", "README.md:2", "README.md:3", "db/a.cc:1", "docs/a.md:2", "scripts/a:1"])

    def test_finds_is_no_in_messages_alone(self):
        self.write("db/a.cc", 'fail("\'{}\' is no size");\n')
        self.assertEqual(len(check_words.check(self.root)), 1)
        self.write("db/a.cc", 'fail("there is no such file");  // this is no size\nfail("is no longer");\n')
        self.assertEqual(check_words.check(self.root), [])

    def test_accepts_plain_english(self):
        self.write("docs/a.md", "Predicted 1.2x, therefore faster. A rank is missing.\n")
        self.assertEqual(check_words.check(self.root), [])


if __name__ == "__main__":
    unittest.main()
