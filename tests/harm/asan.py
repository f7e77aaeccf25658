# SPDX-License-Identifier: Apache-2.0
"""AddressSanitizer in a program that was not built for it: its library is preloaded, so that it
sees the memory that an instrumented collector uses."""
import pathlib
import subprocess
import tempfile

OPTIONS = ["detect_leaks=0", "verify_asan_link_order=0", "use_sigaltstack=0",
           "allow_user_segv_handler=1"]
OPTIONS += [f"handle_{signal}=0" for signal in ("segv", "sigbus", "abort", "sigill", "sigfpe")]


class Reports:
    """A folder of reports, and the environment that has them written there."""

    def __init__(self):
        library = subprocess.run(["gcc", "-print-file-name=libasan.so"], check=True, text=True,
                                 stdout=subprocess.PIPE).stdout.strip()
        self.holder = tempfile.TemporaryDirectory(prefix="harm-asan-")
        self.folder = pathlib.Path(self.holder.name)
        self.folder.chmod(0o777)
        self.environment = {"LD_PRELOAD": str(pathlib.Path(library).resolve()),
                            "ASAN_OPTIONS": ":".join([*OPTIONS, f"log_path={self.folder}/report"])}

    def take(self):
        """The first line that says what is wrong, of each report since the last call."""
        found = []
        for path in self.folder.iterdir():
            lines = path.read_text(errors="replace").splitlines()
            path.unlink()
            if "failed to allocate" in "".join(lines[:2]):
                continue  # the sanitizer's own memory, where the program limits it
            named = [line for line in lines if "ERROR" in line or "SUMMARY" in line]
            found += named[:2] or lines[:1]
        return found
