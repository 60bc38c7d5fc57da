"""Passwords that `dev` makes when they are first needed, one file each."""

import secrets
from pathlib import Path
from typing import Final

from wallet_engine.dev.files import replace_file
from wallet_engine.dev.state import OWNER_ONLY
from wallet_engine.telemetry.secrets import read_secret

_PASSWORD_BYTES: Final = 32


def password_in(file: Path, what: str) -> str:
    """The password in the file. A missing file is created with a random password.

    `what` names the password in error messages. Raises `ConfigError`, and OSError when the file cannot be written.
    """
    if not file.exists():
        file.parent.mkdir(mode=0o700, exist_ok=True)
        replace_file(file, f"{secrets.token_hex(_PASSWORD_BYTES)}\n".encode(), mode=OWNER_ONLY)
    return read_secret(file, what)
