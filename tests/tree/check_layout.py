#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on an #include against the direction of the layout, on a file that is two ideas (over 500
lines) and on a source folder that docs/data-flow.md does not describe.
Usage: check_layout.py [ROOT]"""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from sources import CODE, files, lines, main

# The rooms and what each may include besides itself. A room is a folder with its subfolders, or the
# stem of a file ("profiler/spool" is spool.h); the longest name that fits a file is its room. A room
# in a list stands for its subfolders too, except those with an entry of their own, which must be named.
LIBRARY = ["common", "db"]
IN_PROCESS = ["common (header-only)"]  # never throws, exits, blocks, prints or allocates on a hot path
# What the collector shares with code outside the profiled process.
CONTRACT = ["profiler/spool", "profiler/spool_name", "profiler/cuda_records", "profiler/capture_range",
            "profiler/communication_kernels",
            "profiler/launcher_clock"]
SCHEDULE = ["planner/schedule"]
REPLAY = ["replay/ranks", "replay/step", "replay/measure"]
ROOMS = {
    "common": [],
    "db": ["common"],
    "db/explore": LIBRARY,
    "db/grid": LIBRARY,
    "db/step": LIBRARY,
    "db/sweep": LIBRARY,
    "hooks": IN_PROCESS + ["hooks/mpi/functions", "hooks/memory/allocations"],
    "hooks/mpi/functions": [],  # names of MPI functions: the one part of hooks that offline code sees
    "hooks/memory/allocations": [],  # names of allocations, the same on both sides
    "planner/schedule": LIBRARY + ["db/step"],
    "planner/workload": LIBRARY + ["db/step", "planner/workload/model"] + SCHEDULE,
    "planner/workload/model": ["common"] + SCHEDULE,
    "planner/workload/align": LIBRARY + ["db/step", "planner/workload", "profiler/gpu"] + SCHEDULE,
    "planner/flow": ["common"] + SCHEDULE,
    "planner/referee": LIBRARY + ["db/step"] + SCHEDULE,
    "planner/problem": LIBRARY + ["db/step", "planner/flow", "planner/referee"] + SCHEDULE,
    "planner/search": LIBRARY + ["db/step", "planner/flow", "planner/referee", "planner/problem"] + SCHEDULE,
    "planner/measure": LIBRARY + ["db/step", "planner/flow", "planner/referee", "planner/problem",
                                  "planner/search"] + SCHEDULE,
    "planner/explore": LIBRARY + ["db/explore", "db/step", "db/sweep", "planner/flow", "planner/referee", "planner/problem",
                                  "planner/search", "planner/workload", "planner/workload/model", "replay/ranks"] + SCHEDULE,
    "planner": LIBRARY + ["db/step", "planner/flow", "planner/referee", "planner/problem", "planner/search",
                          "planner/measure", "planner/workload", "planner/workload/align"] + SCHEDULE,
    "profiler/spool": ["hooks/mpi/functions"],
    "profiler/spool_name": [],
    "profiler/cuda_records": ["profiler/spool"],
    "profiler/capture_range": IN_PROCESS,
    "profiler/communication_kernels": IN_PROCESS,
    "profiler/launcher_clock": [],
    "profiler/clocks": LIBRARY,
    "profiler/collector": IN_PROCESS + CONTRACT + ["hooks", "hooks/mpi/functions", "hooks/memory/allocations"],
    "profiler/gpu": LIBRARY + ["db/step", "profiler/communication_kernels"],
    "profiler/convert": LIBRARY + CONTRACT + ["db/step", "hooks/mpi/functions", "hooks/memory/allocations",
                                                "profiler/clocks", "profiler/gpu"],
    "profiler/import": LIBRARY + ["db/step", "profiler/gpu"],
    "profiler/export": LIBRARY + ["db/step"],
    "profiler/summary": LIBRARY + ["db/step", "profiler/gpu"],
    "profiler/files": LIBRARY + SCHEDULE + ["db/step", "planner/workload", "planner/workload/align", "profiler/clocks", "profiler/convert", "profiler/gpu", "profiler/import", "profiler/export",
                                 "profiler/summary"],
    "profiler/run": LIBRARY + CONTRACT + ["db/step", "profiler/convert"],
    "profiler": LIBRARY + CONTRACT + ["db/step", "planner/workload", "profiler/convert", "profiler/files", "profiler/import",
                                     "profiler/export", "profiler/summary", "profiler/run"],
    "replay/ranks": ["common"],
    "replay/step": LIBRARY + ["db/step", "replay/ranks"] + SCHEDULE,
    "replay/measure": LIBRARY + ["db/step", "replay/ranks", "replay/step"] + SCHEDULE,
    "replay/cpu": LIBRARY + REPLAY + SCHEDULE,
    "replay/gpu": LIBRARY + REPLAY + SCHEDULE,
    "replay/calibrate": ["common", "replay/cpu"] + REPLAY + SCHEDULE,
    "replay/gpu/calibrate": ["common", "replay/gpu", "replay/calibrate"] + REPLAY + SCHEDULE,
    "replay/cuda": ["common", "replay/gpu"],  # seen by nobody: the tools call open_cuda_device() of replay/gpu
    "replay/grid": LIBRARY + ["db/grid", "db/sweep"] + REPLAY + SCHEDULE,
    "replay": LIBRARY + ["db/step", "db/grid", "db/sweep", "replay/cpu", "replay/gpu", "replay/calibrate", "replay/gpu/calibrate",
                         "replay/grid"] + REPLAY + SCHEDULE,
    "apply/plan_file": [],
    "apply/plan_content": ["apply/plan_file", "apply/graph_plan_file"],
    "apply/outcome_file": [],
    "apply/graph_plan_file": ["apply/plan_file"],
    "apply/kernel_name": IN_PROCESS,
    "apply/control": IN_PROCESS + ["apply/plan_file", "apply/outcome_file"],
    "apply/library": IN_PROCESS + ["hooks", "hooks/mpi/functions", "hooks/memory/allocations", "apply/plan_file",
                                   "apply/outcome_file", "apply/control", "apply/library/own_files", "apply/library/tensors",
                                   "apply/library/regions"],
    "apply/library/tensors": IN_PROCESS + ["apply/plan_file", "apply/outcome_file"],
    "apply/library/regions": ["apply/library/tensors"],
    "apply/library/own_files": IN_PROCESS + ["apply/outcome_file"],
    "apply/library/cuda": IN_PROCESS + ["hooks", "apply/plan_file", "apply/library/own_files", "apply/outcome_file",
                                        "apply/library/tensors", "apply/library/regions",
                                        "apply/graph_plan_file", "apply/kernel_name", "apply/control",
                                        "replay/cuda"],  # its instructions
    "apply": LIBRARY + ["db/step", "hooks/mpi/functions", "hooks/memory/allocations", "apply/plan_file",
                         "apply/plan_content", "apply/outcome_file", "apply/graph_plan_file",
                         "apply/kernel_name"] + SCHEDULE,
    "reports": LIBRARY + ["db/step", "db/grid", "db/explore"] + SCHEDULE,
    "examples": [],  # a real program that knows nothing of Preserve
}
MOST_LINES = 500


def room_of(path: str) -> str | None:
    stem = path.rsplit(".", 1)[0]
    fits = [room for room in ROOMS if stem == room or stem.startswith(room + "/")]
    return max(fits, key=len, default=None)


def included(root: Path, path: Path) -> list[tuple[int, str]]:
    """Line number and text of each #include "..."."""
    found = []
    for number, line in enumerate(lines(root / path), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if match:
            found.append((number, match[1]))
    return found


def header_only(root: Path, header: str, seen: frozenset = frozenset()) -> bool:
    """Needs no library of ours and throws no Error: fit for a foreign process."""
    if header == "common/error.h" or (root / header).with_suffix(".cc").exists():
        return False
    return all(header_only(root, other, seen | {header}) for _, other in included(root, Path(header))
               if other not in seen and (root / other).exists())


def check_include(root: Path, path: Path, target: str) -> str | None:
    """What is wrong with `path` including `target`."""
    if not (root / target).exists():
        if (root / path.parent / target).exists():
            return f'write the path from the root: "{path.parent}/{target}"'
        return None  # generated, or from outside
    room, other = room_of(str(path)), room_of(target)
    if other is None:
        return f"{target} belongs to no room"
    if other == room or other in ROOMS[room]:
        return None
    if other == "common" and IN_PROCESS[0] in ROOMS[room]:
        if header_only(root, target):
            return None
        return f"{room} runs in a foreign process and may include only header-only parts of common, not {target}"
    return f"{room} may not include {target}; it may see: {', '.join(ROOMS[room]) or 'nothing of Preserve'}"


def check(root: Path) -> list[str]:
    findings = []
    folders = set()
    for path in files(root):
        code = path.suffix in CODE
        if (code or path.suffix in {".py", ".css", ".js"}) and len(lines(root / path)) > MOST_LINES:
            findings.append(f"{path}: {len(lines(root / path))} lines; a file over {MOST_LINES} is two ideas")
        if not code or path.parts[0] == "tests":
            continue
        folders.add(path.parent)
        if room_of(str(path)) is None:
            findings.append(f"{path}: its folder has no room in {Path(__file__).name}: add one")
            continue
        for number, target in included(root, path):
            wrong = check_include(root, path, target)
            if wrong:
                findings.append(f"{path}:{number}: {wrong}")
    described = (root / "docs/data-flow.md").read_text(encoding="utf-8")
    for folder in sorted(folders):
        if f"`{folder}/`" not in described:
            findings.append(f"docs/data-flow.md: no sentence about `{folder}/`")
    return findings


if __name__ == "__main__":
    main(check)
