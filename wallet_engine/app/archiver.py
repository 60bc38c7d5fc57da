"""Hands every sealed segment to `--archive-command`, in order, with PostgreSQL's conventions.

In the command %p is the segment's path, %f its file name, %% a percent sign. Exit status 0 means that the segment
is archived; anything else, and it is asked again, for ever. The command runs in a shell and a process group of its
own. It may be given the same segment twice (a crash can come between its success and the note of it), so it must
refuse to overwrite an archived file by another one, and say 0 when the very same file is there already.

The file `archived` in the journal's directory holds the number of the last archived segment, 8 digits and a newline.
"""

import asyncio
import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

from wallet_engine.domain.errors import ConfigError
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.head import read_head
from wallet_engine.journal.segments import fsync_directory, segment_path
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

ARCHIVED_NAME: Final = "archived"
POLL_S: Final = 1.0
RETRY_S_MIN: Final = 1.0
RETRY_S_MAX: Final = 60.0
#: How long a command may take to end when the journal stops.
STOP_S_MAX: Final = 3.0

_STANDARD_ERROR: Final = 2

log = get_logger(__name__)


def expand(command: str, path: Path) -> str:
    """The command for one segment; a % before any other character stands as it is."""
    words = {"%p": str(path), "%f": path.name, "%%": "%"}
    return re.sub("%[pf%]", lambda found: words[found[0]], command)


def read_archived(journal: Path) -> int:
    """The number of the last archived segment; 0 before the first. Raises `Damaged`."""
    path = journal / ARCHIVED_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return 0
    if len(text) != 9 or text[8:] != b"\n" or not text[:8].isdigit():
        raise Damaged(path, 0, f"not a segment number: {text[:32]!r}")
    return int(text)


def note_archived(journal: Path, number: int) -> None:
    """Remember, durably, that segments up to `number` are archived. Raises `OSError`."""
    unfinished = journal / f"{ARCHIVED_NAME}.tmp"
    with open(unfinished, "wb") as file:
        file.write(b"%08d\n" % number)
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, journal / ARCHIVED_NAME)
    fsync_directory(journal)


class Archiver:
    """Runs in the journal process, beside payments: a command that fails or hangs delays only the archive."""

    def __init__(self, journal: Path, command: str, metrics: Metrics) -> None:
        """Raises `ConfigError` when the command does not name the segment, `Damaged`."""
        if "%p" not in command and "%f" not in command:
            raise ConfigError(
                "--archive-command must say which segment: %p for its path, %f for its file name"
            )
        self._journal = journal.resolve()
        self._command = command
        self._metrics = metrics
        self._archived = read_archived(journal)

    def __repr__(self) -> str:
        return f"<Archiver archived={self._archived} waiting={self.waiting()}>"

    def waiting(self) -> int:
        """How many sealed segments are not archived. The newest segment of all is not sealed."""
        return max(0, read_head(self._journal) - 1 - self._archived)

    async def run(self) -> None:
        """Archive until cancelled; the command that runs then is ended."""
        while True:
            waiting = self.waiting()
            self._metrics.journal_segments_to_archive.set(waiting)
            if waiting:
                await self._archive(self._archived + 1, waiting)
            else:
                await asyncio.sleep(POLL_S)

    async def _archive(self, number: int, waiting: int) -> None:
        path = segment_path(self._journal, number)
        delay_s = RETRY_S_MIN
        while (failure := await self._try(number, path)) is not None:
            self._metrics.journal_archive_failures.inc()
            waiting = self.waiting()
            self._metrics.journal_segments_to_archive.set(waiting)
            log.warning("segment not archived", path=str(path), why=failure, waiting=waiting, retry_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_S_MAX)
        self._archived = number
        log.info("segment archived", path=str(path), waiting=waiting - 1)

    async def _try(self, number: int, path: Path) -> str | None:
        """Why it did not work; None when the segment is archived and that is noted."""
        try:
            status = await run_in_group(expand(self._command, path))
            if status:
                return f"--archive-command ended with status {status}"
            await asyncio.to_thread(note_archived, self._journal, number)
        except OSError as error:
            return str(error)
        return None


async def run_in_group(command: str | list[str]) -> int:
    """Run a shell command or a program in a process group of its own; its output goes to standard error.

    Returns its exit status (negative: the signal that ended it). When cancelled, the group is ended.
    """
    options = {"stdin": asyncio.subprocess.DEVNULL, "stdout": _STANDARD_ERROR, "start_new_session": True}
    if isinstance(command, str):
        process = await asyncio.create_subprocess_shell(command, **options)  # type: ignore[arg-type]
    else:
        process = await asyncio.create_subprocess_exec(*command, **options)  # type: ignore[arg-type]
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            await asyncio.shield(_end_group(process))


async def _end_group(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S_MAX):
                await process.wait()
                return
