"""Permissions of files: those with secrets, and those that this program writes, are for their owner only."""

import os
import stat
from pathlib import Path

from wallet_engine.domain.errors import ConfigError


def write_for_owner_only() -> None:
    """Set the umask, so that only the owner can read files of this process and of those that it starts."""
    os.umask(0o077)


def read_secret(path: Path, what: str) -> str:
    """The first line of a file that only its owner can read. `what` names the secret in errors.

    Raises `ConfigError` when the file cannot be read, is empty, or others can read it.
    """
    try:
        text = path.read_text("utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the {what} in {path}: {error}") from None
    check_secret_file(path)
    if not text:
        raise ConfigError(f"the first line of {path} is empty, and should be the {what}")
    return text


def check_secret_file(path: Path) -> None:
    """Raises `ConfigError` when others can read or write the file, or when it is missing.

    When this process is not root, a group may have access to a file of root: Kubernetes mounts secrets like that.
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
