"""Child processes, and how to recognise them again after their parent has died."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from wallet_engine.domain.errors import WalletError
from wallet_engine.routing.processes import birth_of
from wallet_engine.routing.tree import StoreUnavailable

STOP_S_MAX: Final = 10.0
POLL_S: Final = 0.02
#: A log larger than this is renamed when its process starts; one older log is kept.
LOG_BYTES_MAX: Final = 64 * 1024 * 1024
LOG_TAIL_BYTES_MAX: Final = 4096
IDENTITY_S_MAX: Final = 1.0


def share_cores() -> None:
    """Run this process and its future children under `SCHED_BATCH`: a process that wakes up preempts none of them.

    On one machine the engine's processes wake each other some thousand times a second. Under this policy a running
    process finishes its work before the next one gets the core. See sched(7).
    """
    _take_policy(os.SCHED_BATCH)


def preempt_others() -> None:
    """Run this process and its future children under `SCHED_OTHER`: a process that wakes up may preempt others.

    For payments beside a follower and PostgreSQL: without it each hop of a payment could wait for the next tick, up
    to 4 ms.
    """
    _take_policy(os.SCHED_OTHER)


def _take_policy(policy: int) -> None:
    with contextlib.suppress(OSError):  # without the permission everything works, only slower
        os.sched_setscheduler(0, policy, os.sched_param(0))


class StartFailed(WalletError):
    """A child process did not start. The text names the process, the reason and its log."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifies one process. A process id alone does not: the kernel may reuse it for another program."""

    pid: int
    #: Boot id and start time, from `birth_of`.
    birth: str
    argv: tuple[str, ...]


def identify(pid: int) -> Identity | None:
    """The process that has this id now; None when there is none, or when it is a zombie."""
    birth = birth_of(pid)
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return Identity(pid, birth, tuple(argv.decode(errors="replace").split("\0")[:-1])) if birth else None


def stop_identified(identity: Identity, grace_s: float = STOP_S_MAX) -> bool:
    """End exactly this process: SIGTERM, then SIGKILL after `grace_s`. Returns whether it was still running.

    Never signals another process that has got the same id.
    """
    try:
        handle = os.pidfd_open(identity.pid)
    except OSError:
        return False
    try:
        # Checked after the handle was opened: a handle always refers to the same process.
        if identify(identity.pid) != identity:
            return False
        ended = select.poll()  # select() does not support descriptors above 1023
        ended.register(handle, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if ended.poll(grace_s * 1000):
                break
        return True
    finally:
        os.close(handle)


def wait_until(condition: Callable[[], bool], timeout_s: float, *, poll_s: float = POLL_S) -> bool:
    """Poll the condition until it is true. Returns False when `timeout_s` passes first."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll_s)
    return True


class Child:
    """A child process in its own session, with its output appended to a log file.

    Because of the session, Ctrl-C in a terminal does not reach the child: the parent stops it, in the right order.
    """

    #: Seconds between the request to end and SIGKILL.
    grace_s: float = STOP_S_MAX

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        """`folder`: the child's working directory; None for that of this process."""
        self.name = name
        self.argv = list(argv)
        self.log = log
        self.environ = environ
        self.folder = folder
        self.identity: Identity | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} pid={self.pid if self.alive else None}>"

    @property
    def pid(self) -> int:
        """The process id of the last start. Raises `RuntimeError` before the first one."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status of the last run (negative: the signal that ended it); None while it runs."""
        return self._process.poll() if self._process is not None else None

    def start(self) -> None:
        if self.alive:
            raise RuntimeError(f"{self.name} is running already")
        with self._open_log() as log:
            try:
                self._process = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.environ,
                    cwd=self.folder,
                    start_new_session=True,
                )
            except OSError as error:
                raise StartFailed(f"{self.name} cannot be started: {error}") from None
        self.identity = None
        # Without a descriptor to look at it, it runs all the same; only a dev after this one would not recognise it.
        with contextlib.suppress(StoreUnavailable):
            wait_until(self._has_identity, IDENTITY_S_MAX, poll_s=0.001)

    def _open_log(self) -> BinaryIO:
        """Open the log. When it cannot be written, open /dev/null: the process is more important than its log."""
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
                self.log.replace(self.log.with_suffix(".old.log"))
            return self.log.open("ab")
        except OSError:
            return Path(os.devnull).open("ab")

    def _has_identity(self) -> bool:
        """Note the child's identity. Its command line is visible only a moment after `Popen` returns."""
        self.identity = identify(self.pid)
        return self.identity is None or self.identity.argv != ()

    def send_signal(self, number: int) -> None:
        """Send a signal if the process runs. The id cannot be reused before the process was waited for."""
        if self._process is not None:
            self._process.send_signal(number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process has ended, at most `STOP_S_MAX`."""
        self.send_signal(signal.SIGKILL)
        self.wait(STOP_S_MAX)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the process. Returns False when `timeout_s` passes first."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace_s: float | None = None) -> None:
        """Ask the process to end; SIGKILL after `grace_s`, by default that of the child. Returns when it has ended."""
        self.terminate()
        if not self.wait(self.grace_s if grace_s is None else grace_s):
            self.kill()

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Return when `ready()` is true. Raises `StartFailed` when the process ends or the time passes first."""
        if not wait_until(lambda: not self.alive or ready(), timeout_s):
            raise StartFailed(f"{self.name} is not ready after {timeout_s:.0f} s{self.last_words()}")
        if not self.alive:
            raise StartFailed(f"{self.name} ended with status {self.status}{self.last_words()}")

    def last_words(self) -> str:
        """The last line of the log and the log's path, to append to an error message; empty without a log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES_MAX))
                lines = log.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last[:300]} (see {self.log})"


def stop_all(children: Sequence[Child]) -> None:
    """Ask all to end, then wait for each. A child that does not end within its `grace_s` gets SIGKILL."""
    for child in children:
        child.terminate()
    for child in children:
        if not child.wait(child.grace_s):
            child.kill()
