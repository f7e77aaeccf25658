# SPDX-License-Identifier: Apache-2.0
"""The files of the project that the checks of this folder read, and how a check reports."""
import os
import sys
from pathlib import Path

CODE = {".cc", ".h", ".c", ".cu", ".cuh"}


def files(root: Path):
    """Every file below `root`, as a relative path, except hidden and generated ones."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "build", "demo-out"))
                               and name not in ("__pycache__", "shared"))
        for name in sorted(names):
            yield Path(folder, name).relative_to(root)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def main(check) -> None:
    """`check(root)` returns findings, one a line; none is success."""
    findings = check(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)
