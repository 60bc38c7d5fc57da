"""Files that are replaced whole, so that a full disk or a kill leaves the old one or the new one."""

import contextlib
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Raises `OSError`, and then the old file is as it was."""
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
