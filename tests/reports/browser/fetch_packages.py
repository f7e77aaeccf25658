# SPDX-License-Identifier: Apache-2.0
"""What Debian does not have and tests of the page need, by its lock file (packages/). Usage: fetch_packages.py FOLDER
Exit code 77: no npm here, or no registry that it reaches."""
import shutil
import subprocess
import sys
from pathlib import Path

LISTS = Path(__file__).parent / "packages"
PATIENCE_S = 120


def is_fetched(folder: Path) -> bool:
    lock = folder / "package-lock.json"
    return (folder / "node_modules").is_dir() and lock.exists() and lock.read_bytes() == (LISTS / lock.name).read_bytes()


def fetch(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "node_modules", ignore_errors=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(LISTS / name, folder / name)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"], cwd=folder,
                   check=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL, capture_output=True, text=True)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if is_fetched(target):
        sys.exit(0)
    if shutil.which("npm") is None:
        print("skipped: npm is not installed")
        sys.exit(77)
    try:
        fetch(target)
    except subprocess.TimeoutExpired:
        print(f"skipped: npm took longer than {PATIENCE_S} s")
        sys.exit(77)
    except subprocess.CalledProcessError as error:
        # A wrong digest is a failure; a registry out of reach is not.
        print(error.stderr)
        sys.exit(1 if "EINTEGRITY" in error.stderr or "EUSAGE" in error.stderr else 77)
