"""Hands every sealed segment to `--archive-command`, in order, with PostgreSQL's conventions.

In the command %p is the segment's path, quoted if need be, %f the file name it is to have, %% a percent sign. Exit
status 0 means that the segment is archived; anything else, and it is asked again, for ever. The command runs in a shell
and a process group of its own. It may be given the same segment twice (a crash can come between its success and the
note of it), so it must refuse to overwrite an archived file by another one, and say 0 when the very same file is there
already.

A segment's file name is the one it has here, until a rewrite took orphaned entries out of it or of one before it
(`journal.rewrite`): then they are archived again, as `00000005-r1.wal` after the first rewrite, `-r2` after the second;
what is sealed later is named alike. Of each number the highest -r counts. It is PostgreSQL's idea of timelines.

The file `archived` in the journal's directory holds the number of the last archived segment in 8 digits, a space, how
many rewrites of the journal its text and those before it reflect, and a newline.
"""

import asyncio
import os
import re
import shlex
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from wallet_engine.app.troubles import Tell
from wallet_engine.domain.errors import ConfigError
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.head import read_head
from wallet_engine.journal.rewrite import read_rewrites
from wallet_engine.journal.segments import fsync_directory, segment_path
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

ARCHIVED_NAME: Final = "archived"
POLL_S: Final = 1.0
RETRY_S_MIN: Final = 1.0
RETRY_S_MAX: Final = 60.0
#: A command that takes longer for one segment hangs.
RUN_S_WARN: Final = 60.0
#: How long a command may take to end when the journal stops.
STOP_S_MAX: Final = 3.0

_STANDARD_ERROR: Final = 2
#: What decides how a word has to be quoted, and what is replaced.
_tokens: Final = re.compile(r"""%[pf%]|\\['"\\]|['"]""").sub

log = get_logger(__name__)


_note_match = re.compile(rb"([0-9]{8}) ([0-9]+)\n\Z").match


class Archived(NamedTuple):
    """How far the archive is: the last segment, and how many rewrites are in the archived texts up to it."""

    number: int
    rewrites: int

    def next(self, rewrites: Sequence[int]) -> int:
        """The segment to archive next; further back when some were rewritten since."""
        return min((self.number + 1, *rewrites[self.rewrites :]))


def archive_name(path: Path, number: int, rewrites: Sequence[int]) -> str:
    """What the segment is called in the archive after these rewrites, given by their first segments."""
    last = max((count for count, first in enumerate(rewrites, 1) if first <= number), default=0)
    return f"{path.stem}-r{last}{path.suffix}" if last else path.name


def expand(command: str, path: Path, name: str) -> str:
    """The command for one segment, for a shell; a % before any other character stands as it is.

    A path with spaces or quotes is one word wherever %p stands: on its own, or between the quotes of the command.
    """
    words, quote = {"%p": str(path), "%f": name}, ""

    def put(found: re.Match[str]) -> str:
        nonlocal quote
        token = found[0]
        if token in words:
            return _within(quote, words[token])
        if token in ("'", '"'):
            quote = token if not quote else "" if quote == token else quote
        elif token == "\\'" and quote == token[1]:  # between such quotes a backslash is a character as others
            quote = ""
        return "%" if token == "%%" else token

    return _tokens(put, command)


def _within(quote: str, word: str) -> str:
    """The word as the shell is to be given it within these quotes, or within none."""
    if quote == "'":
        return word.replace("'", "'\\''")
    return re.sub(r'[$`"\\]', r"\\\g<0>", word) if quote else shlex.quote(word)


def read_archived(journal: Path) -> Archived:
    """What was noted last; (0, 0) before the first segment. Raises `Damaged`."""
    path = journal / ARCHIVED_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Archived(0, 0)
    found = _note_match(text)
    if found is None:
        raise Damaged(path, 0, f"not a segment number and a count of rewrites: {text[:32]!r}")
    return Archived(int(found[1]), int(found[2]))


def note_archived(journal: Path, archived: Archived) -> None:
    """Remember it durably. Raises `OSError`."""
    unfinished = journal / f"{ARCHIVED_NAME}.tmp"
    with open(unfinished, "wb") as file:
        file.write(b"%08d %d\n" % archived)
        file.flush()
        os.fsync(file.fileno())
    os.rename(unfinished, journal / ARCHIVED_NAME)
    fsync_directory(journal)


class Archiver:
    """Runs in the journal process, beside payments: a command that fails or hangs delays only the archive."""

    def __init__(self, journal: Path, command: str, metrics: Metrics, tell: Tell) -> None:
        """`tell` is told why segments are not archived.

        Raises `ConfigError` when the command does not name the segment, `Damaged`.
        """
        if "%p" not in command and "%f" not in command:
            raise ConfigError(
                "--archive-command must say which segment: %p for its path, %f for its file name"
            )
        self._journal = journal.resolve()
        self._command = command
        self._metrics = metrics
        self._tell = tell
        self._archived = read_archived(journal)

    def __repr__(self) -> str:
        return f"<Archiver archived={self._archived.number} waiting={self.waiting()}>"

    def waiting(self) -> int:
        """How many sealed segments are not archived as they are now. The newest segment of all is not sealed."""
        return max(0, read_head(self._journal) - self._archived.next(read_rewrites(self._journal)))

    async def run(self) -> None:
        """Archive until cancelled; the command that runs then is ended."""
        delay_s = RETRY_S_MIN
        while True:
            waiting = self.waiting()
            self._metrics.journal_segments_to_archive.set(waiting)
            if not waiting:
                await asyncio.sleep(POLL_S)
                continue
            failure = await self._archive_next()
            self._tell(failure or "")
            if failure is None:
                delay_s = RETRY_S_MIN
                continue
            self._metrics.journal_archive_failures.inc()
            log.warning("segment not archived", why=failure, waiting=waiting, retry_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_S_MAX)

    async def _archive_next(self) -> str | None:
        """Why it did not work; None when the segment is archived and that is noted.

        A rewrite that is made meanwhile is not in the note, so the segment's turn comes again.
        """
        rewrites = read_rewrites(self._journal)
        number = self._archived.next(rewrites)
        path = segment_path(self._journal, number)
        name = archive_name(path, number, rewrites)
        hangs = asyncio.get_running_loop().call_later(
            RUN_S_WARN, self._tell, f"{name}: --archive-command does not end"
        )
        try:
            status = await run_in_group(expand(self._command, path, name))
            if status:
                return f"{name}: --archive-command ended with status {status}"
            archived = Archived(number, len(rewrites))
            await asyncio.to_thread(note_archived, self._journal, archived)
        except OSError as error:
            return f"{name}: {error}"
        finally:
            hangs.cancel()
        self._archived = archived
        log.info("segment archived", path=str(path), name=name)
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
