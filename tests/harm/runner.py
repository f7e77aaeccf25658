# SPDX-License-Identifier: Apache-2.0
"""Runs a command with and without preserve-profile and says what is different for the command.

The command runs under a shell that reports its process id and connects standard output and error to
FIFOs, so what the profiler prints itself stays apart, and the time is the command's own.
"""
import ctypes
import dataclasses
import os
import pathlib
import select
import signal
import tempfile
import time

WRAPPER = 'echo $$ >"$1"; out=$2 err=$3; shift 3; exec "$@" >"$out" 2>"$err" </dev/null'
PR_SET_CHILD_SUBREAPER = 36
LATER_S = 0.2      # what a profiled program may end later than alone
MAX_SPOOL = "32MiB"  # of a program that records all the time, and what converting it takes
CONVERSION_S = 60  # the profiler's own time after the program, on a busy machine
TRIES = 10         # of both, before a program is called late: the machine may be busy


@dataclasses.dataclass
class Outcome:
    code: int = -1  # 128+N when signal N ended it
    out: bytes = b""
    err: bytes = b""
    seconds: float = 0.0
    ended: bool = False     # the command and all that it started
    recorded: bool = False  # a trace was written
    said: str = ""          # by the profiler


def become_reaper():
    """Processes that lose their parent become children of this one, so that none is lost."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Runner:
    def __init__(self, profiler, limit_s):
        self.profiler, self.limit_s = str(profiler), limit_s
        become_reaper()

    def run(self, command, profiled, environment=None, kill_after_s=None, look=None):
        """kill_after_s: SIGKILL that long after the start. look(folder): called at the end, while
        trace.db is still there."""
        with tempfile.TemporaryDirectory(prefix="harm-") as name:
            folder = pathlib.Path(name)
            folder.chmod(0o755)
            fifos = {}
            for kind in ("pid", "out", "err"):
                os.mkfifo(folder / kind)
                (folder / kind).chmod(0o666)  # a program that gives up root opens nothing again
                fifos[kind] = os.open(folder / kind, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                outcome = self._run(command, profiled, environment or {}, folder, fifos,
                                    kill_after_s)
                if look:
                    look(folder)
                return outcome
            finally:
                for fd in fifos.values():
                    os.close(fd)

    def _run(self, command, profiled, environment, folder, fifos, kill_after_s):
        whole = ["sh", "-c", WRAPPER, "sh"] + [str(folder / kind) for kind in fifos]
        whole += [str(word) for word in command]
        if profiled:
            whole = [self.profiler, "-q", "--max-spool", MAX_SPOOL, "-o", str(folder / "trace.db"), "--"] + whole
        log = folder / "log"
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions += [(os.POSIX_SPAWN_OPEN, fd, str(log), flags, 0o644) for fd in (1, 2)]
        pid = os.posix_spawnp(whole[0], whole, {**os.environ, **environment, "TMPDIR": str(folder)},
                              file_actions=actions, setpgroup=0,
                              setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])  # Python ignores these
        outcome = Outcome()
        text = {"pid": b"", "out": b"", "err": b""}
        self._follow(pid, fifos, text, outcome, kill_after_s)
        outcome.out, outcome.err = text["out"], text["err"]
        outcome.recorded = (folder / "trace.db").exists()
        outcome.said = log.read_text(errors="replace")
        return outcome

    def _follow(self, launched, fifos, text, outcome, kill_after_s):
        """Until the launched process and all that became ours have ended, or the limit is over."""
        start = time.monotonic()
        deadline = start + self.limit_s
        poll = select.poll()
        for fd in fifos.values():
            poll.register(fd, select.POLLIN)
        watched = None  # a pidfd of the command
        while True:
            poll.poll(20 if kill_after_s is None else 2)
            for kind, fd in fifos.items():
                text[kind] += read_all(fd)
            now = time.monotonic()
            if watched is None and text["pid"].endswith(b"\n"):
                start = now
                try:
                    watched = os.pidfd_open(int(text["pid"]))
                    poll.register(watched, select.POLLIN)
                except ProcessLookupError:
                    watched = -1  # over before we looked
            if kill_after_s is not None and watched is not None and now > start + kill_after_s:
                if watched >= 0:
                    signal.pidfd_send_signal(watched, signal.SIGKILL)
                kill_after_s = None
            if watched is not None and watched >= 0 and select.select([watched], [], [], 0)[0]:
                outcome.seconds = now - start
                poll.unregister(watched)
                os.close(watched)
                watched = -1
                deadline = max(deadline, now + CONVERSION_S)
            try:
                while True:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                    if pid == 0:
                        break
                    if pid == launched:
                        outcome.code = shell_code(status)
            except ChildProcessError:
                outcome.ended = True
                break
            if now > deadline:
                kill_children()
                break
        if watched is not None and watched >= 0:
            os.close(watched)
        for kind, fd in fifos.items():
            text[kind] += read_all(fd)

    def compare(self, command, environment=None, tidy=bytes, timed=True):
        """What is different under the profiler: sentences, none when nothing is. And the last
        profiled outcome. tidy makes output comparable. NotComparable when the command alone does
        not do the same twice."""
        alone = self.run(command, False, environment)
        profiled = self.run(command, True, environment)
        found = differences(alone, profiled, tidy)
        if found and (other := differences(alone, self.run(command, False, environment), tidy)):
            raise NotComparable(f"without a profiler, twice: {'; '.join(other)}")
        if not found and timed and profiled.seconds > alone.seconds + LATER_S:
            best_alone, best = alone.seconds, profiled.seconds
            for _ in range(TRIES - 1):
                best_alone = min(best_alone, self.run(command, False, environment).seconds)
                best = min(best, self.run(command, True, environment).seconds)
            if best > best_alone + LATER_S:
                found.append(f"late: ends after {best * 1e3:.0f} ms instead of "
                             f"{best_alone * 1e3:.0f} ms")
        return found, profiled


class NotComparable(Exception):
    pass


def differences(alone, profiled, tidy):
    if not alone.ended:
        raise NotComparable("the command does not end without a profiler")
    if not profiled.ended:
        return ["hangs"]
    found = []
    if profiled.code != alone.code:
        found.append(f"code {profiled.code} instead of {alone.code}")
    for name in ("out", "err"):
        mine, theirs = tidy(getattr(profiled, name)), tidy(getattr(alone, name))
        if mine != theirs:
            found.append(f"std{name} {shortened(mine)} instead of {shortened(theirs)}")
    return found


def shortened(data):
    text = repr(data)
    return text if len(text) < 400 else text[:400] + "..."


def shell_code(status):
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def read_all(fd):
    data = b""
    while True:
        try:
            part = os.read(fd, 65536)
        except BlockingIOError:
            return data
        data += part
        if not part:
            return data


def kill_children():
    """Every child, and what becomes our child by that, until there is none."""
    while True:
        children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
