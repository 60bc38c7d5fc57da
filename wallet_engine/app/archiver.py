"""Gives every sealed segment to `--archive-command`, in order, with PostgreSQL's conventions (`journal.archive`).

Exit status 0 means that the segment is archived. After any other status the command is run again, without end. It
runs in a shell and a process group of its own. It may get the same segment twice: a crash can come between its
success and the record of it. So it must refuse to overwrite an archived file by another one, and exit with 0 when
the same file is there already.

When no segment waits, the newest snapshot of each partition is archived in the same way, under a name such as
`00003-0000000000001234-v5.snapshot` (partition, seq, version of its form). `snapshots/archived` lists those archived.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from wallet_engine.app.gauging import gauged
from wallet_engine.app.troubles import Tell
from wallet_engine.journal.archive import (
    ARCHIVED_NAME,
    Archived,
    archive_name,
    expand,
    read_archived,
    read_rewrites,
)
from wallet_engine.journal.head import read_head
from wallet_engine.journal.segments import fsync_directory, read_segment_header, segment_path
from wallet_engine.journal.snapshots import SNAPSHOT_VERSION, list_snapshots, snapshots_directory
from wallet_engine.telemetry.flags import check_archive_command
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

POLL_S: Final = 1.0
RETRY_S_MIN: Final = 1.0
RETRY_S_MAX: Final = 60.0
#: A command that takes longer for one file is reported as hanging.
RUN_S_WARN: Final = 60.0
#: Waiting segments from which archiving is reported as behind. With 256 MiB each, 2 GiB are on one disk only.
WAITING_WARN: Final = 8
#: How long a command may take to end when the journal stops.
STOP_S_MAX: Final = 3.0

_STANDARD_ERROR: Final = 2

log = get_logger(__name__)


def note_archived(journal: Path, archived: Archived) -> None:
    """Record it durably. Raises `OSError`."""
    _replace(journal / ARCHIVED_NAME, b"%08d %d\n" % archived)


def _replace(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.tmp")
    with open(unfinished, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, path)
    fsync_directory(path.parent)


def archived_snapshot_name(path: Path, rewrites: Sequence[int]) -> str:
    """The name has the rewrite and the version: a snapshot made after a rewrite, or in another form, may differ."""
    last = f"-r{len(rewrites)}" if rewrites else ""
    return f"{path.stem}-v{SNAPSHOT_VERSION}{last}{path.suffix}"


def read_archived_snapshots(journal: Path) -> frozenset[str]:
    """The names of archived snapshots in the list, which drops those removed here."""
    try:
        return frozenset((snapshots_directory(journal) / ARCHIVED_NAME).read_text("ascii").split())
    except FileNotFoundError:
        return frozenset()


def note_archived_snapshots(journal: Path, names: Iterable[str]) -> None:
    """Record these names durably. Raises `OSError`."""
    _replace(
        snapshots_directory(journal) / ARCHIVED_NAME, "".join(f"{name}\n" for name in sorted(names)).encode()
    )


class Archiver:
    """Runs in the journal process, beside payments. A command that fails or hangs delays only the archive."""

    def __init__(self, journal: Path, command: str, metrics: Metrics, tell: Tell) -> None:
        """`tell` gets the reason why segments are not archived, "" when all is well.

        Raises `WrongUsage` when the command does not name the segment, and `Damaged`.
        """
        check_archive_command(command)
        self._journal = journal.resolve()
        self._command = command
        self._metrics = metrics
        self._tell = tell
        self._archived = read_archived(journal)
        self._journal_id: str | None = None

    def __repr__(self) -> str:
        return f"<Archiver archived={self._archived.number} waiting={self.waiting()}>"

    def waiting(self) -> int:
        """The number of sealed segments not archived in their present form. The newest segment is not sealed yet."""
        return max(0, read_head(self._journal) - self._archived.next(read_rewrites(self._journal)))

    async def run(self) -> None:
        """Archive until cancelled; then end a command that is running."""
        async with gauged(self._look, POLL_S):
            await self._archive_all()

    async def _look(self) -> int:
        waiting = self.waiting()
        self._metrics.journal_segments_to_archive.set(waiting)
        return waiting

    async def _archive_all(self) -> None:
        delay_s = RETRY_S_MIN
        while True:
            waiting = await self._look()
            snapshot = None if waiting else await asyncio.to_thread(self._next_snapshot)
            if not waiting and snapshot is None:
                self._tell("")
                await asyncio.sleep(POLL_S)
                continue
            failure = await self._archive_next() if snapshot is None else await self._archive(*snapshot)
            late = waiting > WAITING_WARN
            self._tell(failure or (f"archiving is behind: {waiting} sealed segments wait" if late else ""))
            if failure is None:
                delay_s = RETRY_S_MIN
                continue
            self._metrics.journal_archive_failures.inc()
            log.warning("not archived", why=failure, waiting=waiting, retry_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_S_MAX)

    def _words(self, path: Path, name: str) -> dict[str, str]:
        if self._journal_id is None:
            self._journal_id = read_segment_header(self._journal, read_head(self._journal)).journal_id
        return {"%p": str(path), "%f": name, "%j": self._journal_id}

    async def _archive_next(self) -> str | None:
        """Archive the next segment. Returns why it failed, or None when it is archived and that is recorded.

        A rewrite during the command is not in the record, so the segment is archived again.
        """
        rewrites = read_rewrites(self._journal)
        number = self._archived.next(rewrites)
        path = segment_path(self._journal, number)
        archived = Archived(number, len(rewrites))

        def note() -> None:
            note_archived(self._journal, archived)
            self._archived = archived

        return await self._archive(path, archive_name(path, number, rewrites), note)

    async def _archive(self, path: Path, name: str, note: Callable[[], None]) -> str | None:
        """Archive one file. Returns why it failed, or None when it is archived and `note` has recorded it durably."""
        hangs = asyncio.get_running_loop().call_later(
            RUN_S_WARN, self._tell, f"{name}: --archive-command does not end"
        )
        try:
            status = await run_in_group(expand(self._command, self._words(path, name)))
            if status:
                return f"{name}: --archive-command ended with status {status}"
            await asyncio.to_thread(note)
        except OSError as error:
            return f"{name}: {error}"
        finally:
            hangs.cancel()
        log.info("archived", path=str(path), name=name)
        return None

    def _next_snapshot(self) -> tuple[Path, str, Callable[[], None]] | None:
        """A newest snapshot of a partition that is not archived: path, name, and the function that records it."""
        listed = list_snapshots(self._journal)
        archived = read_archived_snapshots(self._journal)
        rewrites = read_rewrites(self._journal)
        for path in (paths[0] for paths in listed.values()):
            name = archived_snapshot_name(path, rewrites)
            if name not in archived:
                here = {archived_snapshot_name(each, rewrites) for paths in listed.values() for each in paths}
                return path, name, partial(note_archived_snapshots, self._journal, (archived & here) | {name})
        return None


async def run_in_group(command: str | list[str]) -> int:
    """Run a shell command or a program in a process group of its own; its output goes to standard error.

    Returns its exit status (negative: the signal that ended it). When cancelled, it ends the group.
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
