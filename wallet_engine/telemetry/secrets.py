"""Files that hold secrets, and files that this program writes: for their owner alone."""

import os
import stat
from pathlib import Path

from wallet_engine.domain.errors import ConfigError


def write_for_owner_only() -> None:
    """Have this process, and those that it starts, write files that nobody else can read."""
    os.umask(0o077)


def read_secret(path: Path, what: str) -> str:
    """The first line of a file that nobody else can read. Raises `ConfigError`."""
    try:
        text = path.read_text("utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the {what} in {path}: {error}") from None
    check_secret_file(path)
    if not text:
        raise ConfigError(f"the first line of {path} is empty, and should be the {what}")
    return text


def check_secret_file(path: Path) -> None:
    """Raises `ConfigError` when others can read the file.

    A group may read what belongs to root, when we are not root: so Kubernetes gives secrets to a process.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    forbidden = stat.S_IRWXO
    if found.st_uid != 0 or os.geteuid() == 0:
        forbidden |= stat.S_IRWXG
    if stat.S_ISREG(found.st_mode) and found.st_mode & forbidden:
        raise ConfigError(f"others can read {path}, which holds a secret: chmod 600 {path}")
