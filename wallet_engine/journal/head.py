"""The file `head`: the lock against a second writer, and the highest segment number ever created.

Without the number, a journal whose newest segment was lost would look like one that ends earlier.
"""

import fcntl
import os
from pathlib import Path

from wallet_engine.domain.errors import ConfigError
from wallet_engine.journal.errors import Damaged, disk_failure

HEAD_NAME = "head"


class Head:
    """The locked `head` of a directory. Released by `close` or by the end of the process."""

    def __init__(self, directory: Path) -> None:
        """Take the lock. Raises `ConfigError` when it is taken or the directory cannot be written."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(directory / HEAD_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(disk_failure(directory, error)) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise ConfigError(f"journal directory {directory} is in use by another journal process") from None

    def note(self, number: int) -> None:
        """Remember, durably, that segment `number` exists. Nine bytes in one sector: whole or not at all."""
        os.pwrite(self._fd, b"%08d\n" % number, 0)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def read_head(directory: Path) -> int:
    """The highest segment number ever created; 0 when none was. Raises `Damaged`."""
    path = directory / HEAD_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return 0
    if not text:
        return 0
    if len(text) != 9 or text[8:] != b"\n" or not text[:8].isdigit():
        raise Damaged(path, 0, f"not a segment number: {text[:32]!r}")
    return int(text)
