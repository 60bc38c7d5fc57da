"""File names as text that every process reads in the same way: as UTF-8, independent of its locale."""

import os
from pathlib import Path


def path_text(path: Path) -> str:
    """The name for messages, documents and other processes; bytes that are not UTF-8 are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def text_path(text: str) -> Path:
    """The file of this name, as `path_text` gave it."""
    return Path(os.fsdecode(text.encode()))
