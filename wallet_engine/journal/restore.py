"""Brings segments back from the archive by `--restore-command`, with PostgreSQL's conventions, when they are read.

In the command %p is the path to put the file at, quoted if needed, %f its name in the archive, %j the id of
the copy, %% a percent sign (`archive`). Exit status 0 means that the file is there. A separate process then
reads the file once: it must be the segment whose running hash fits those of its neighbours here.

The newest restored segments are kept for further reads. A process that reads a journal sets the command once
with `restore_with`; until then a segment that is only in the archive raises `NotRestored`.

    python -m wallet_engine.journal.restore FILE NUMBER JOURNAL_ID START_HASH|- END_HASH|-     checks one
"""

import atexit
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from wallet_engine.domain.errors import ConfigError, WalletError
from wallet_engine.journal.archive import archive_name, expand, read_archived, read_rewrites
from wallet_engine.journal.errors import NotRestored
from wallet_engine.journal.format import SEGMENT_HEADER_BYTES, hash_at_start, parse_segment_header
from wallet_engine.journal.index import stored_index
from wallet_engine.journal.scan import Scan
from wallet_engine.journal.segments import (
    numbers_on_disk,
    read_seal,
    read_segment_header,
    restore_by,
    segment_path,
)

#: Folder in a journal's directory for the segments that its own process restored.
RESTORED_NAME: Final = "restored"
#: Maximum restored segments to keep; with 256 MiB each, 2 GiB.
RESTORED_SEGMENTS_MAX: Final = 8
#: Prefix of folders in the temporary directory for the segments that other processes restored.
_FOLDER_PREFIX: Final = "wallet-restored-"
#: If such a folder has not changed for this long, it is checked whether its process lives.
LEFT_S_MIN: Final = 3600.0
#: A command that takes longer for one segment is considered hung and is killed.
RESTORE_S_MAX: Final = 600.0
#: Maximum time to check a segment; one of 256 MiB takes about 2 s.
CHECK_S_MAX: Final = 300.0

_STANDARD_ERROR: Final = 2


class Restorer:
    """Restores one segment at a time. It blocks, so call it in a thread."""

    def __init__(
        self,
        command: str,
        cache: Path | None = None,
        tell: Callable[[str], None] = lambda why: None,
        restored: Callable[[str], None] = lambda name: None,
    ) -> None:
        """`cache`: where to put them; by default a directory that goes with this process. `tell` is told what fails,
        and "" when it goes well; `restored` the name of each segment that was brought.

        Raises `ConfigError` when the command does not name the file.
        """
        if "%p" not in command or "%f" not in command:
            raise ConfigError(
                "--restore-command must say what to bring and where to: %f for its name, %p for the path"
            )
        self._command = command
        self._cache = cache
        self._tell = tell
        self._restored_one = restored
        self._one = threading.Lock()
        #: Names of the kept files that this process has checked.
        self._checked: set[str] = set()
        self._running: subprocess.Popen[bytes] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Restorer {self._command!r} cache={self._cache}>"

    def restore(self, directory: Path, number: int) -> Path:
        """Where the segment of this journal can be read. Raises `NotRestored`."""
        with self._one:
            path, rewrites = segment_path(directory, number), read_rewrites(directory)
            name = archive_name(path, number, rewrites[: read_archived(directory).rewrites])
            try:
                found = self._restored(directory, number, name)
            except OSError as error:
                failure = f"{name} was not restored: {error}"
            except WalletError as error:
                failure = str(error)
            else:
                self._tell("")
                return found
        self._tell(failure)
        raise NotRestored(failure)

    def _restored(self, directory: Path, number: int, name: str) -> Path:
        journal_id = read_segment_header(directory, numbers_on_disk(directory)[-1]).journal_id
        cache = self._cache_directory()
        target = cache / f"{journal_id}-{name}"
        if target.exists():
            # An earlier process may have left it; a crash of the machine may then have emptied it.
            if target.name in self._checked or self._fits(target, name, directory, number, journal_id):
                self._checked.add(target.name)
                os.utime(target)  # it is the newest of those kept
                return target
            target.unlink(missing_ok=True)
        _make_room(cache)
        unfinished = cache / f"{target.name}.part"
        words = {"%p": str(unfinished), "%f": name, "%j": journal_id}
        try:
            status = self._run(["/bin/sh", "-c", expand(self._command, words)], RESTORE_S_MAX)
            if status:
                raise NotRestored(f"{name}: --restore-command ended with status {status}")
            if not unfinished.is_file():
                raise NotRestored(f"{name}: --restore-command ended with status 0 and brought no file")
            if not self._fits(unfinished, name, directory, number, journal_id):
                raise NotRestored(
                    f"{name}: --restore-command brought something else than segment {number} of journal "
                    f"{journal_id}; the line before says what"
                )
            os.rename(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
        self._checked.add(target.name)
        self._restored_one(name)
        return target

    def _fits(self, path: Path, name: str, directory: Path, number: int, journal_id: str) -> bool:
        """Whether the file is this segment. If not, the check has said on standard error why. Raises `NotRestored`."""
        start, end = _hashes(directory, number, journal_id)
        if start is None and end is None:
            raise NotRestored(f"{name}: nothing in {directory} says what it must hold")
        check = [sys.executable, "-m", "wallet_engine.journal.restore", str(path), str(number)]
        ends = ["-" if each is None else each.hex() for each in (start, end)]
        return self._run([*check, journal_id, *ends], CHECK_S_MAX) == 0

    def _cache_directory(self) -> Path:
        if self._cache is None:
            self._cache = _own_folder()
        self._cache.mkdir(exist_ok=True)
        return self._cache

    def _run(self, command: list[str], seconds_max: float) -> int:
        """Run the command in its own process group; its output goes to standard error.

        Returns the exit status.
        """
        if self._closed:
            raise NotRestored("this process ends")
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=_STANDARD_ERROR, start_new_session=True
        ) as process:
            self._running = process
            try:
                return process.wait(seconds_max)
            except subprocess.TimeoutExpired:
                raise NotRestored(
                    f"--restore-command did not end within {seconds_max:g} s: {command[-1]}"
                ) from None
            finally:
                self._running = None
                if process.returncode is None:
                    _end_group(process)

    def close(self) -> None:
        """Kill the running command; nothing is restored after this."""
        self._closed = True
        running = self._running
        if running is not None:
            _end_group(running)


def restore_with(command: str | None, cache: Path | None = None) -> None:
    """Set the command with which this process restores archived segments; None for no command."""
    restore_by(Restorer(command, cache).restore if command else None)


def _own_folder() -> Path:
    """A folder that is removed with this process.

    First removes folders of killed processes (maybe some GiB).
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        with suppress(OSError):
            about = left.lstat()
            if about.st_uid == os.getuid() and time.time() - about.st_mtime > LEFT_S_MIN:
                _remove_unless_held(left)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX))
    # The lock is held as long as this process lives.
    fcntl.flock(os.open(folder, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _remove_unless_held(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(fd)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _make_room(cache: Path) -> None:
    for part in cache.glob("*.part"):
        part.unlink(missing_ok=True)
    oldest_first = sorted(cache.glob("*.wal"), key=lambda path: path.stat().st_mtime)
    for path in oldest_first[: max(0, len(oldest_first) - RESTORED_SEGMENTS_MAX + 1)]:
        path.unlink(missing_ok=True)


def _hashes(directory: Path, number: int, journal_id: str) -> tuple[bytes | None, bytes | None]:
    """The running hashes before and after a segment, as far as neighbours and index here have them."""
    start = hash_at_start(journal_id) if number == 1 else None
    before, after = segment_path(directory, number - 1), segment_path(directory, number + 1)
    if start is None and before.exists():
        start = read_seal(before)[2]
    elif start is None and (index := stored_index(before)) is not None:
        start = bytes.fromhex(index.end_hash)
    own = stored_index(segment_path(directory, number))
    if after.exists():
        return start, read_segment_header(directory, number + 1).start_hash
    return start, None if own is None else bytes.fromhex(own.end_hash)


def check_segment(path: Path, number: int, journal_id: str, start: bytes | None, end: bytes | None) -> None:
    """Read all of a sealed segment. Raises `Damaged`, `NotRestored` when it is another one."""
    with open(path, "rb") as file:
        found_start, found_id = parse_segment_header(path, file.read(SEGMENT_HEADER_BYTES), number)
    if found_id != journal_id:
        raise NotRestored(
            f"{path} is of journal {found_id}, not of {journal_id}: say %j in --restore-command"
        )
    if start not in (None, found_start):
        raise NotRestored(f"{path} does not continue the segment before it")
    scan = Scan(path, SEGMENT_HEADER_BYTES, found_start)
    for _ in scan:
        pass
    if not scan.sealed:
        raise scan.damaged()
    if end not in (None, scan.running_hash):
        raise NotRestored(f"{path} does not end as the journal goes on: it is another text of this segment")


def main(path: str, number: str, journal_id: str, start: str, end: str) -> int:
    """Returns the exit status."""
    try:
        start_hash, end_hash = (None if text == "-" else bytes.fromhex(text) for text in (start, end))
        check_segment(Path(path), int(number), journal_id, start_hash, end_hash)
    except (WalletError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
