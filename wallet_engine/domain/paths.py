"""Names of files as text that every process reads alike: as UTF-8, whatever its locale makes of them."""

import os
from pathlib import Path


def path_text(path: Path) -> str:
    """The name for messages, documents and other processes; bytes that are no UTF-8 are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def text_path(text: str) -> Path:
    """The file of this name, as `path_text` gave it."""
    return Path(os.fsdecode(text.encode()))
